"""What is a special case of what, and slow formulas for what no reference implementation has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.objectives import (
    Ring,
    info_nce_loss,
    instance_loss,
    mocov3_loss,
    ressl_loss,
    ring_loss,
    sce_loss,
    simclr_loss,
    snclr_loss,
)
from tests.unit.objectives.golden import gradient, random_unit

ALL = Ring(outer=1.0, inner=0.0)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Rank 1 of 2: queries, own keys, queue, keys of both ranks."""
    keys = random_unit(12, 8, seed=1)
    return {
        "q": random_unit(6, 8, seed=0).requires_grad_(),
        "k": keys[6:],
        "queue": random_unit(8, 20, seed=2, dim=0),
        "keys": keys,
    }


def same(a: Tensor, b: Tensor, q: Tensor) -> None:
    """Equal values and gradients."""
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient(a, q), gradient(b, q), rtol=1e-11, atol=1e-14)


CANDIDATES = pytest.mark.parametrize("names", [("queue",), ("queue", "keys"), ("keys",)])


def given(batch: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Any]:
    rank = 1 if "keys" in names else 0
    return {"rank": rank, **{name: batch[name] for name in names}}


@CANDIDATES
def test_coefficient_one_is_info_nce(batch: dict[str, Tensor], names: tuple[str, ...]) -> None:
    q, k, more = batch["q"], batch["k"], given(batch, names)
    loss, parts = sce_loss(q, k, **more, coeff=1.0, temp=0.2, temp_m=0.05)
    expected, other = info_nce_loss(q, k, **more, temp=0.2)
    same(loss, expected, q)
    for name in ("infonce", "positive", "negative", "top1"):
        torch.testing.assert_close(parts[name], other[name])


@CANDIDATES
def test_coefficient_zero_is_ressl_and_the_ceiling(
    batch: dict[str, Tensor], names: tuple[str, ...]
) -> None:
    q, k, more = batch["q"], batch["k"], given(batch, names)
    loss, parts = sce_loss(q, k, **more, coeff=0.0, temp=0.1, temp_m=0.05)
    expected, other = ressl_loss(q, k, **more, temp=0.1, temp_m=0.05)
    torch.testing.assert_close(parts["relational"], expected.detach())
    torch.testing.assert_close(loss, expected + parts["ceiling"])
    torch.testing.assert_close(parts["target_entropy"], other["target_entropy"])


def test_mocov3_is_info_nce_of_the_batch(batch: dict[str, Tensor]) -> None:
    q, k, more = batch["q"], batch["k"], given(batch, ("keys",))
    expected, _ = info_nce_loss(q, k, **more, temp=0.3)
    same(mocov3_loss(q, k, **more, temp=0.3)[0], 0.6 * expected, q)


@CANDIDATES
def test_the_gradient_is_expectation_minus_target(
    batch: dict[str, Tensor], names: tuple[str, ...]
) -> None:
    """dL/dq_i = 1/(N temp) sum_j (p_ij - w_ij) c_j, written out with all candidates."""
    q, k, more = batch["q"], batch["k"], given(batch, names)
    loss, _ = sce_loss(q, k, **more, coeff=0.3, temp=0.1, temp_m=0.05)
    columns = [batch["keys"].T] if "keys" in names else []
    columns += [batch["queue"]] if "queue" in names else []
    expected = torch.zeros_like(q)
    for i in range(6):
        shared = torch.cat(columns, 1)
        own = i + 6 if "keys" in names else 0
        c = shared if "keys" in names else torch.cat([k[i][:, None], shared], 1)
        p = (q[i].detach() @ c / 0.1).softmax(0)
        target = k[i] @ c / 0.05
        target[own] = float("-inf")
        w = 0.7 * target.softmax(0)
        w[own] = 0.3
        expected[i] = c @ (p - w) / (6 * 0.1)
    torch.testing.assert_close(gradient(loss, q), expected, rtol=1e-10, atol=1e-13)


def test_three_terms_add_up_and_only_q_gets_a_gradient(batch: dict[str, Tensor]) -> None:
    others = [batch[name].requires_grad_() for name in ("k", "queue")]
    loss, parts = sce_loss(batch["q"], others[0], others[1], coeff=0.3)
    total = 0.3 * parts["infonce"] + 0.7 * (parts["relational"] + parts["ceiling"])
    torch.testing.assert_close(loss.detach(), total)
    loss.backward()  # type: ignore[no-untyped-call]
    assert batch["q"].grad is not None
    assert [x.grad for x in others] == [None, None]


@CANDIDATES
def test_a_ring_of_all_is_plain(batch: dict[str, Tensor], names: tuple[str, ...]) -> None:
    q, k, more = batch["q"], batch["k"], given(batch, names)
    same(sce_loss(q, k, **more, ring=ALL)[0], sce_loss(q, k, **more)[0], q)
    ring, _ = ring_loss(q, k, **more, temp=0.1, outer=1.0, inner=0.0)
    same(ring, info_nce_loss(q, k, **more, temp=0.1)[0], q)


def test_sce_of_a_ring_with_coefficient_one_is_the_ring_loss(batch: dict[str, Tensor]) -> None:
    q, k, queue = batch["q"], batch["k"], batch["queue"]
    loss, parts = sce_loss(q, k, queue, coeff=1.0, temp=0.1, ring=Ring(0.6, 0.25))
    expected, other = ring_loss(q, k, queue, temp=0.1, outer=0.6, inner=0.25)
    same(loss, expected, q)
    torch.testing.assert_close(parts["negative"], other["negative"])
    torch.testing.assert_close(parts["top1"], other["top1"])


def test_sce_of_a_ring_is_sce_with_a_queue_of_the_ring(batch: dict[str, Tensor]) -> None:
    """Item by item, with the candidates chosen by hand: places 3 to 11 of 20."""
    q, k, queue = batch["q"], batch["k"], batch["queue"]
    found, _ = sce_loss(q, k, queue, ring=Ring(0.6, 0.25))
    expected = []
    for i in range(6):
        order = (q[i].detach() @ queue).argsort(descending=True)[3:12]
        expected.append(sce_loss(q[i : i + 1], k[i : i + 1], queue[:, order])[0])
    same(found, torch.stack(expected).mean(), q)


@pytest.mark.parametrize("neighbours", [0, 3, 20])
def test_soft_neighbours_against_the_whole_target(
    batch: dict[str, Tensor], neighbours: int
) -> None:
    q, k, queue = batch["q"], batch["k"], batch["queue"]
    found, parts = sce_loss(q, k, queue, coeff=0.4, temp_m=0.05, neighbours=neighbours)
    losses, entropies = [], []
    for i in range(6):
        c = torch.cat([k[i][:, None], queue], 1)
        near = [0, *((k[i] @ queue).argsort(descending=True)[:neighbours] + 1).tolist()]
        closeness = torch.exp((k[i] @ c[:, near] - 1) / 0.05)  # 1 for the own key
        target = F.pad(0.6 * (k[i] @ queue / 0.05).softmax(0), (1, 0))
        target[near] += 0.4 * closeness / closeness.sum()
        assert target.sum().item() == pytest.approx(1, rel=1e-12)
        losses.append(-(target * (q[i] @ c / 0.1).log_softmax(0)).sum())
        entropies.append(torch.special.entr(target).sum())
    same(found, torch.stack(losses).mean(), q)
    torch.testing.assert_close(parts["target_entropy"], torch.stack(entropies).mean())


def test_no_neighbours_and_far_neighbours_are_plain(batch: dict[str, Tensor]) -> None:
    q, k = batch["q"], batch["k"]
    far = -k.T  # nearest: orthogonal at best
    for queue, tolerance in ((batch["queue"], None), (far, 1e-6)):
        plain, _ = sce_loss(q, k, queue, temp_m=0.02)
        soft, _ = sce_loss(q, k, queue, temp_m=0.02, neighbours=0 if tolerance is None else 2)
        torch.testing.assert_close(soft, plain, rtol=tolerance or 0, atol=0)


def test_a_neighbour_equal_to_the_key_shares_evenly(batch: dict[str, Tensor]) -> None:
    q, k = batch["q"][:1], batch["k"][:1]
    queue = torch.cat([k.T, batch["queue"]], 1)
    loss, parts = sce_loss(q, k, queue, coeff=1.0, temp_m=0.01, neighbours=1)
    torch.testing.assert_close(loss, info_nce_loss(q, k, queue, temp=0.1)[0])
    assert parts["target_entropy"].item() == pytest.approx(0.6931, abs=1e-4)


def test_simclr_of_one_rank_is_the_cross_entropy_without_oneself() -> None:
    z = random_unit(10, 8, seed=0).requires_grad_()
    logits = (z @ z.T / 0.3).fill_diagonal_(float("-inf"))
    expected = F.cross_entropy(logits, torch.arange(10).roll(5))
    same(simclr_loss(z, temp=0.3)[0], expected, z)


def test_snclr_without_weight_on_neighbours_counts_them_as_negatives(
    batch: dict[str, Tensor],
) -> None:
    """The paper's form with every weight below the threshold: InfoNCE over all candidates."""
    q, k, queue = batch["q"], batch["k"], batch["queue"]
    # Projections that like both neighbours alike leave each the average weight, which is dropped.
    even = torch.zeros_like(k)
    loss, parts = snclr_loss(
        q, k, queue, projection=even, topk=2, temp=0.1, form="log_sum", threshold=True
    )
    near = (k @ queue).topk(2).indices
    candidates = torch.cat([k, queue.T[near.flatten()]])
    expected = F.cross_entropy(q @ candidates.T / 0.1, torch.arange(6))
    same(loss, expected, q)
    torch.testing.assert_close(parts["infonce"], expected.detach())


def test_instance_loss_of_the_whole_bank(batch: dict[str, Tensor]) -> None:
    """Drawing every row once is InfoNCE with the bank as the queue."""
    q, bank = batch["q"], batch["queue"].T
    rows = torch.arange(6)
    draws = ((torch.arange(20) + 0.5) / 20).expand(6, 20)
    loss, _ = instance_loss(q, bank, rows, draws, temp=0.1)
    same(loss, info_nce_loss(q, bank[rows], bank.T, temp=0.1)[0], q)
    ring, _ = instance_loss(q, bank, rows, draws[:, :9] * 20 / 9, temp=0.1, ring=Ring(0.6, 0.25))
    same(ring, ring_loss(q, bank[rows], bank.T, temp=0.1, outer=0.6, inner=0.25)[0], q)


LOSSES: dict[str, Any] = {
    "sce": lambda q, k, queue: sce_loss(q, k, queue),
    "sce, keys": lambda q, k, queue: sce_loss(q, k, queue, keys=k),
    "sce, zero logit": lambda q, k, queue: sce_loss(q, k, queue, positive_in_target="zero_logit"),
    "sce, ring": lambda q, k, queue: sce_loss(q, k, queue, ring=Ring(0.6, 0.25)),
    "sce, neighbours": lambda q, k, queue: sce_loss(q, k, queue, neighbours=3),
    "info_nce": lambda q, k, queue: info_nce_loss(q, k, queue),
    "mocov3": lambda q, k, queue: mocov3_loss(q, k, keys=k),
    "ressl": lambda q, k, queue: ressl_loss(q, k, queue),
    "ressl, keys": lambda q, k, queue: ressl_loss(q, k, keys=k),
    "simclr": lambda q, k, queue: simclr_loss(q),
    "snclr": lambda q, k, queue: snclr_loss(q, k, queue, projection=q, topk=3),
    "ring": lambda q, k, queue: ring_loss(q, k, queue, outer=0.6, inner=0.25),
    "instance": lambda q, k, queue: instance_loss(
        q, queue.T, torch.arange(6), torch.full((6, 4), 0.3), ring=Ring(0.6, 0.25)
    ),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_inputs_under_autocast_are_computed_in_fp32(
    name: str, dtype: torch.dtype, batch: dict[str, Tensor]
) -> None:
    half = [batch[part].detach().to(dtype) for part in ("q", "k", "queue")]
    half[0].requires_grad_()
    whole = [x.detach().float() for x in half]
    whole[0].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, parts = LOSSES[name](*half)
    expected, _ = LOSSES[name](*whole)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    found, wanted = gradient(loss, half[0]), gradient(expected, whole[0])
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=2e-2)
    assert all(torch.isfinite(value) for value in parts.values())


def test_bad_shapes_are_refused(batch: dict[str, Tensor]) -> None:
    q = random_unit(1, 8, seed=0)
    for loss in (sce_loss, info_nce_loss, ressl_loss, mocov3_loss):
        with pytest.raises(ValueError, match="no candidate"):
            loss(q, q, keys=q)
    with pytest.raises(ValueError, match="width 8"):
        sce_loss(q, q, random_unit(4, 8, seed=1))
    with pytest.raises(ValueError, match="do not hold rank 2's 6 x 8"):
        sce_loss(batch["q"], batch["k"], keys=batch["keys"], rank=2)
    with pytest.raises(ValueError, match="must be equal"):
        info_nce_loss(q, batch["k"], batch["queue"])
    with pytest.raises(ValueError, match="no queue"):
        mocov3_loss(q, q, keys=None)
    with pytest.raises(ValueError, match="no negatives"):
        simclr_loss(q.repeat(2, 1))
    with pytest.raises(ValueError, match="is empty"):
        ring_loss(batch["q"], batch["k"], batch["queue"], outer=0.01)
    with pytest.raises(ValueError, match="topk 30 of a queue of 20"):
        snclr_loss(batch["q"], batch["k"], batch["queue"], projection=batch["q"])
    with pytest.raises(ValueError, match="21 neighbours of 20"):
        sce_loss(batch["q"], batch["k"], batch["queue"], neighbours=21)
    with pytest.raises(ValueError, match="do not fit"):
        instance_loss(q, batch["queue"], torch.zeros(1, dtype=torch.long), torch.zeros(1, 4))
