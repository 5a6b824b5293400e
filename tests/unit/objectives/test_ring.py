"""Ring's MoCo and its annealing against the reference implementation."""

from __future__ import annotations

import pytest

from sce_video.objectives import (
    info_nce_loss,
    ring_loss,
)
from sce_video.objectives.ring import annealed_outer
from tests.unit.objectives.golden import (
    Case,
    cases,
    check,
    check_gradient,
    document,
    leaf,
    tensor,
    unit,
)


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


def test_annealing_of_the_ring() -> None:
    for case in document("ring_annealing")["cases"]:
        steps = case["params"]["max_anneal_step"]
        found = [annealed_outer(step, steps, case["name"]) for step in case["steps"]]
        assert found == pytest.approx(case["expected"], rel=1e-9)
