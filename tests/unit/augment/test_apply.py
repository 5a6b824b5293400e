"""A view is torchvision's, clip by clip, with the parameters that were drawn for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from sce_video.augment.apply import Augmenter
from sce_video.augment.parameters import ViewParams, draw
from sce_video.config.recipes import RECIPES, Recipe, ViewRecipe
from tests.torchvision_colour import torchvision_colour

CPU = torch.device("cpu")
KINETICS = RECIPES["kinetics_strength_1.0"]


def some_clips(b: int, size: int = 16, t: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (b, t, 3, size, size), generator=generator, dtype=torch.uint8)


def reference(
    clips: torch.Tensor, params: ViewParams, view: ViewRecipe, recipe: Recipe
) -> torch.Tensor:
    made = []
    for row, clip in enumerate(clips):
        x = torchvision_colour(tv.to_dtype(clip, torch.float32, scale=True), params, row, view)
        made.append(tv.normalize(x, *map(list, recipe.stats)))
    return torch.stack(made).transpose(1, 2)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_equals_torchvision_clip_by_clip(name: str) -> None:
    recipe, rows = RECIPES[name], np.arange(12)
    epochs = np.full(12, 3)
    views = [some_clips(12, side) for _, side in recipe.crops(32)]
    before = [clips.clone() for clips in views]
    made = Augmenter(recipe, 7, CPU)(views, epochs, rows)
    assert len(made) == len(recipe.views)
    for number, (view, clips) in enumerate(zip(recipe.views, views, strict=True)):
        expected = reference(clips, draw(view, 7, epochs, rows, number), view, recipe)
        torch.testing.assert_close(made[number], expected, rtol=0, atol=1e-4)  # in units of std
        assert made[number].is_contiguous(memory_format=torch.channels_last_3d)
        assert torch.equal(clips, before[number])


@settings(deadline=None, max_examples=25)
@given(
    p=st.tuples(*(st.sampled_from([0.0, 0.5, 1.0]),) * 5),
    strengths=st.tuples(*(st.floats(0, 1.2),) * 3, st.floats(0, 0.5)),
    seed=st.integers(0, 1000),
)
def test_any_recipe_equals_torchvision_clip_by_clip(
    p: tuple[float, ...], strengths: tuple[float, float, float, float], seed: int
) -> None:
    jitter, gray, blur, solarize, flip = p
    view = ViewRecipe(
        KINETICS.views[0].crop,
        jitter=jitter,
        strengths=strengths,
        gray=gray,
        blur=blur,
        solarize=solarize,
        flip=flip,
    )
    recipe, rows = Recipe((view,), KINETICS.stats), np.arange(4)
    clips = some_clips(4)
    (made,) = Augmenter(recipe, seed, CPU)([clips], rows, rows)
    expected = reference(clips, draw(view, seed, rows, rows, 0), view, recipe)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_a_gpus_way_through_whole_batches_gives_the_same() -> None:
    # Of each batch some clips are chosen: by index, where the CPU takes a clip at a time.
    clips, rows = some_clips(16), np.arange(16)
    augmenter = Augmenter(KINETICS, 0, CPU)
    one_by_one = augmenter([clips, clips], rows, rows)
    for number, view in enumerate(KINETICS.views):
        params = draw(view, 0, rows, rows, number)
        assert 0 < params.gray.sum() < 16
        x = augmenter._colour(clips.float() / 255, params, view)
        together = augmenter.kernels.normalise(x, *map(torch.tensor, KINETICS.stats))
        torch.testing.assert_close(together, one_by_one[number], rtol=0, atol=1e-5)


def test_frames_share_their_clips_parameters() -> None:
    clips, rows = some_clips(16, t=4), np.arange(16)
    clips[:] = clips[:, :1].clone()
    for view in Augmenter(KINETICS, 0, CPU)([clips, clips], rows, rows):
        for t in range(1, 4):
            assert torch.equal(view[:, :, t], view[:, :, 0])


def test_a_clip_is_the_same_in_any_batch() -> None:
    clips, rows = some_clips(6), np.arange(6)
    augmenter = Augmenter(KINETICS, 0, CPU)
    together = augmenter([clips, clips], rows, rows)
    picked = np.array([4, 1])
    alone = augmenter([clips[picked], clips[picked]], picked, picked)
    for both, few in zip(together, alone, strict=True):
        assert torch.equal(both[picked], few)


def test_crop_and_flip_alone_are_bit_exact() -> None:
    clips, rows = some_clips(8), np.arange(8)
    recipe = RECIPES["crop_flip"]
    made = Augmenter(recipe, 0, CPU)([clips, clips], rows, rows)
    mean, std = (torch.tensor(s).view(3, 1, 1, 1) for s in recipe.stats)
    for number, view in enumerate(recipe.views):
        flip = torch.from_numpy(draw(view, 0, rows, rows, number).flip)
        assert 0 < flip.sum() < 8
        x = torch.where(flip.view(-1, 1, 1, 1, 1), clips.flip(-1), clips).float() / 255
        assert torch.equal(made[number], (x.transpose(1, 2) - mean) / std)
