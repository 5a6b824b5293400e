"""Queue and bank."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sce_video.objectives.memory import Bank, Queue
from tests.unit.objectives.golden import document, tensor


@pytest.mark.parametrize(("size", "n"), [(12, 4), (12, 5), (7, 7), (10, 3)])
def test_queue_is_a_ring_for_any_batch_size(size: int, n: int) -> None:
    queue = Queue(3, size, seed=0)
    torch.testing.assert_close(queue.keys.norm(dim=0), torch.ones(size))
    written = []
    for step in range(9):
        keys = torch.full((n, 3), float(step)) + torch.arange(n)[:, None] / 100
        queue.enqueue(keys)
        written += keys.tolist()
    expected = {tuple(key) for key in written[-size:]}
    assert {tuple(key) for key in queue.keys.T.tolist()} == expected
    assert int(queue.pointer) == 9 * n % size
    with pytest.raises(ValueError, match="do not fit"):
        queue.enqueue(torch.zeros(size + 1, 3))


def test_queue_starts_equal_everywhere() -> None:
    torch.manual_seed(1)
    first = Queue(4, 8, seed=5).keys
    torch.manual_seed(2)
    assert torch.equal(first, Queue(4, 8, seed=5).keys)


def test_a_bank_moves_only_the_rows_it_is_given() -> None:
    bank = Bank(samples=9, dim=4, momentum=0.25, seed=3)
    before = bank.vectors.clone()
    assert torch.equal(before, Bank(9, 4, 0.5, seed=3).vectors)
    new = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    bank.update(torch.tensor([7, 2, 5]), new)
    expected = before.clone()
    for row, vector in zip((7, 2, 5), new, strict=True):
        expected[row] = F.normalize(0.25 * before[row] + 0.75 * vector, dim=0)
    torch.testing.assert_close(bank.vectors, expected)


def test_a_row_given_twice_takes_the_last() -> None:
    bank = Bank(samples=4, dim=2, momentum=0.0, seed=0)
    bank.update(torch.tensor([3, 1, 3]), torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -3.0]]))
    assert bank.vectors[[1, 3]].tolist() == [[0.0, 1.0], [0.0, -1.0]]


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
