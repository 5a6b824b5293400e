"""SCE: the reference implementation's numbers, slow formulas, and what it is a special case of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.objectives import (
    Ring,
    info_nce_loss,
    ressl_loss,
    ring_loss,
    sce_loss,
)
from sce_video.objectives.memory import Queue
from tests.unit.objectives.golden import (
    CANDIDATES,
    Case,
    cases,
    check,
    check_gradient,
    check_paired,
    close,
    document,
    given,
    gradient,
    leaf,
    paired,
    same,
    tensor,
)


def test_keys_of_all_ranks_golden() -> None:
    check_paired("sce_loss_keys")


@pytest.mark.parametrize(
    ("form", "expected"), [("zero_logit", "expected"), ("masked", "expected_positive_masked")]
)
def test_sce_against_the_queue(form: str, expected: str) -> None:
    for parameter in cases("sce_loss_queue_only"):
        case, dtype, tolerance = parameter.values
        loss, q, _ = paired("sce_loss_queue_only", case, dtype, positive_in_target=form)
        check(loss, case[expected][dtype]["loss"], tolerance)
        check_gradient(loss, q, case[expected][dtype]["grad_q"], tolerance)


@pytest.mark.parametrize(
    ("name", "derived"),
    [
        ("sce_loss_keys", "derived_float64"),
        ("sce_loss_queue_only", "derived_float64_positive_masked"),
    ],
)
def test_the_terms_and_the_target_of_sce(name: str, derived: str) -> None:
    for case in document(name)["cases"]:
        _, _, parts = paired(name, case, "float64")
        expected = case[derived]
        for term in ("infonce", "relational", "ceiling"):
            assert parts[term].item() == pytest.approx(expected[term], rel=1e-9, abs=1e-12)
        target = tensor(expected["target"], "float64")
        entropy = torch.special.entr(target).sum(1).mean().item()
        assert parts["target_entropy"].item() == pytest.approx(entropy, rel=1e-9)


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("sce_symmetric_step"))
def test_symmetric_steps(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    """Both ranks' losses and the queue; through the network: tests/dist/test_objectives.py."""
    params = case["params"]
    initial, n = tensor(case["inputs"]["queue_initial_DxK"], dtype), params["batch_size"]
    queue = Queue(initial.shape[0], initial.shape[1], seed=0).to(initial.dtype)
    queue.keys.copy_(initial)
    settings = {name: params[name] for name in ("coeff", "temp", "temp_m")}
    for step in case["steps"]:
        k, expected = tensor(step["k_views_all_ranks"], dtype), step["expected"][dtype]
        for rank in range(params["world_size"]):
            own = slice(rank * n, (rank + 1) * n)
            q = leaf(step["q_views_all_ranks"], dtype)
            losses = []
            for i, j in ((0, 1), (1, 0)):
                keys = k[i] if params["use_keys"] else None
                pair = (q[j][own], k[i][own], queue.keys, keys, rank)
                losses.append(sce_loss(*pair, positive_in_target="zero_logit", **settings)[0])
            loss = torch.stack(losses).mean()
            check(loss, expected["loss_per_rank"][rank], tolerance)
            wanted = tensor(expected["grad_q_per_rank_per_view"][rank], dtype)
            close(torch.autograd.grad(loss, q)[0][:, own], wanted, tolerance)
        queue.enqueue(k.flatten(0, 1))
        assert int(queue.pointer) == step["expected_queue_ptr_after"]
        close(queue.keys, tensor(step["expected_queue_after_DxK"], dtype), tolerance)


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


ALL = Ring(outer=1.0, inner=0.0)


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
