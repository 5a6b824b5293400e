"""Parameters belong to a clip; applying them to a batch is applying them clip by clip."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch

from sce_video.augment.apply import apply
from sce_video.augment.draw import ViewParams, draw
from sce_video.augment.recipes import recipe


def some_clips(b: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (b, 2, 3, 16, 16), generator=generator, dtype=torch.uint8)


def test_a_batch_is_its_clips_and_frames_share_parameters() -> None:
    first, _ = recipe("sce_video", 1.0, 0.5)
    rows = np.arange(16)
    params = draw(first, 0, np.zeros(16, np.int64), rows, 0)
    clips = some_clips(16)
    clips[:, 1] = clips[:, 0]
    together = apply(clips, params, first)
    torch.testing.assert_close(together[:, :, 0], together[:, :, 1], rtol=0, atol=0)
    for i in range(16):
        one = ViewParams(**{f.name: getattr(params, f.name)[i : i + 1] for f in fields(params)})
        alone = apply(clips[i : i + 1], one, first)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_draws_depend_on_sample_epoch_view_alone() -> None:
    first, second = recipe("sce_video", 0.5, 0.5)
    rows, epochs = np.arange(2000), np.zeros(2000, np.int64)
    a, b = draw(first, 0, epochs, rows, 0), draw(first, 0, epochs, rows, 1)
    assert not torch.equal(a.factors, b.factors)
    shuffled = draw(first, 0, epochs, rows[::-1].copy(), 0)
    assert torch.equal(shuffled.factors.flip(0), a.factors)
    # Shares and ranges as the recipe says (2000 draws: 4 standard errors are 0.045).
    assert abs(a.jitter.float().mean() - 0.8) < 0.045
    assert abs(a.gray.float().mean() - 0.2) < 0.045
    assert (a.sigma > 0).all()
    assert not a.solarize.any()
    solarized = draw(second, 0, epochs, rows, 1).solarize
    assert abs(solarized.float().mean() - 0.2) < 0.045
    assert a.factors[:, 0].min() >= 0.6
    assert a.factors[:, 0].max() <= 1.4
    assert a.factors[:, 3].abs().max() <= 0.1
    correlation = np.corrcoef(a.factors[:, 0].numpy(), b.factors[:, 0].numpy())[0, 1]
    assert abs(correlation) < 0.09
