"""Every objective against its reference implementation: values and gradients, both dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

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
from sce_video.objectives.memory import Bank, Queue
from sce_video.objectives.ring import annealed_outer
from sce_video.objectives.snclr import nearest
from tests.unit.objectives.golden import (
    cases,
    check,
    check_gradient,
    close,
    document,
    leaf,
    optional,
    tensor,
    unit,
)

Case = dict[str, Any]
PAIRED: dict[str, Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]] = {
    "sce_loss_keys": sce_loss,
    "sce_loss_queue_only": sce_loss,
    "moco_loss": info_nce_loss,
    "ressl_loss": ressl_loss,
    "mocov3_loss": mocov3_loss,
}


def paired(name: str, case: Case, dtype: str, **more: Any) -> tuple[Any, torch.Tensor, Any]:
    """Loss, query and parts of an objective of queries against keys."""
    inputs, params = case["inputs"], case["params"]
    q = leaf(inputs["q"], dtype)
    keys = tensor(inputs["k_global"], dtype) if params["use_keys"] else None
    settings = {key: params[key] for key in ("coeff", "temp", "temp_m") if key in params}
    loss, parts = PAIRED[name](
        q,
        tensor(inputs["k"], dtype),
        optional(inputs["queue_DxK"], dtype),
        keys,
        params["rank"],
        **settings,
        **more,
    )
    return loss, q, parts


@pytest.mark.parametrize("name", [n for n in PAIRED if n != "sce_loss_queue_only"])
def test_queries_against_keys(name: str) -> None:
    for parameter in cases(name):
        case, dtype, tolerance = parameter.values
        loss, q, _ = paired(name, case, dtype)
        check(loss, case["expected"][dtype]["loss"], tolerance)
        check_gradient(loss, q, case["expected"][dtype]["grad_q"], tolerance)


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


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("simclr_loss"))
def test_simclr(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    z, rank = leaf(case["inputs"]["z_local"], dtype), case["params"]["rank"]
    others = tensor(case["inputs"]["z_global"], dtype)
    z_all = torch.cat([others[: rank * len(z)], z, others[(rank + 1) * len(z) :]])
    loss, _ = simclr_loss(z, z_all, rank, temp=case["params"]["temp"])
    check(loss, case["expected"][dtype]["loss"], tolerance)
    check_gradient(loss, z, case["expected"][dtype]["grad_z_local"], tolerance)


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("snclr_loss"))
def test_snclr(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    inputs, params, expected = case["inputs"], case["params"], case["expected"][dtype]
    q, projection = (leaf(inputs[f"q_{name}_out"], dtype) for name in ("predictor", "projector"))
    keys = unit(tensor(inputs["k_momentum_projection_per_rank"], dtype).flatten(0, 1))
    queue = unit(tensor(inputs["bank_KxD"], dtype).T, dim=0)
    rank, n = params["rank"], params["batch_size"]

    def loss(**more: Any) -> torch.Tensor:
        value, _ = snclr_loss(
            unit(q),
            keys[rank * n : (rank + 1) * n],
            queue,
            keys,
            rank,
            projection=unit(projection),
            topk=params["topk"],
            temp=params["T"],
            threshold=params["threshold"],
            **more,
        )
        return value

    check(loss(), expected["loss"], tolerance)
    check_gradient(loss(), q, expected["grad_q"], tolerance)
    check_gradient(loss(), projection, expected["grad_q_pre"], tolerance)
    detached = loss(detach_weights=True)
    check_gradient(detached, q, expected["grad_q_with_detached_weights"], tolerance)
    derived = case["derived_float64"]
    check(loss(form="log_sum"), derived["paper_form_loss_without_2T"], tolerance)
    found = nearest(keys, queue, params["topk"]).view(-1, n, params["topk"])
    assert found.tolist() == derived["neighbour_indices_per_rank"]
    torch.testing.assert_close(loss(neighbours=found.flatten(0, 1)), loss())


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("ring_moco", shared=True))
def test_ring_of_a_queue(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    inputs, params = document("ring_moco")["cases"][0]["inputs"], case["params"]
    outputs = leaf(inputs["outputs1"], dtype)
    q, k = unit(outputs), unit(tensor(inputs["outputs2"], dtype))
    queue = tensor(inputs["queue_KxD"], dtype).T
    if params["class"] == "MoCo":
        loss, _ = info_nce_loss(q, k, queue, temp=params["t"])
    else:
        loss, _ = ring_loss(
            q,
            k,
            queue,
            temp=params["t"],
            outer=params["thres_outer"],
            inner=params["thres_inner"],
            dynamic_inner=params["dynamic_inner"],
            self_negative=params["self_negative"],
            neighbor_views=params["neighbor_views"],
            ball=params["class"] == "MoCoBall",
        )
    check(loss, case["expected"][dtype]["loss"], tolerance)
    check_gradient(loss, outputs, case["expected"][dtype]["grad_outputs1"], tolerance)


@pytest.mark.parametrize(("case", "dtype", "tolerance"), cases("ring_ir", shared=True))
def test_ring_of_a_bank(case: Case, dtype: str, tolerance: dict[str, float]) -> None:
    inputs, params = document("ring_ir")["cases"][0]["inputs"], case["params"]
    outputs, bank = leaf(inputs["outputs"], dtype), tensor(inputs["bank_NxD"], dtype)
    rows = torch.tensor(inputs["indices"])
    draws = (torch.tensor(case["draw_indices"]) + 0.5) / case["draw_upper_bound"]
    ring = Ring(params["thres_outer"], params["thres_inner"], params["dynamic_inner"])
    loss, _ = instance_loss(
        unit(outputs),
        bank,
        rows,
        draws,
        temp=params["t"],
        ring=None if params["class"] == "NCE" else ring,
    )
    check(loss, case["expected"][dtype]["loss"], tolerance)
    check_gradient(loss, outputs, case["expected"][dtype]["grad_outputs"], tolerance)
    memory = Bank(bank.shape[0], bank.shape[1], params["m"], seed=0).to(bank.dtype)
    memory.vectors.copy_(bank)
    memory.update(rows, unit(outputs.detach()))
    after = tensor(case["expected"][dtype]["bank_rows_after_update"], dtype)
    close(memory.vectors[rows], after, tolerance)


def test_annealing_of_the_ring() -> None:
    for case in document("ring_annealing")["cases"]:
        steps = case["params"]["max_anneal_step"]
        found = [annealed_outer(step, steps, case["name"]) for step in case["steps"]]
        assert found == pytest.approx(case["expected"], rel=1e-9)


def test_the_bank_of_snclr() -> None:
    for case in document("snclr_bank")["cases"]:
        initial = tensor(case["inputs"]["bank_initial_DxK"], "float64")
        queue = Queue(initial.shape[0], initial.shape[1], seed=0, overflow="drop").double()
        queue.keys.copy_(initial)
        for step in case["steps"]:
            queue.enqueue(tensor(step["batch"], "float64"))
            assert int(queue.pointer) == step["ptr_after"]
            after = tensor(step["bank_after_DxK"], "float64")
            torch.testing.assert_close(queue.keys, after, rtol=1e-9, atol=1e-12)


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
