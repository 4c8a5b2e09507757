"""Grouped LoRA arithmetic against the definition, token by token."""

from collections.abc import Callable, Iterator

import pytest
import torch

from serve_app.cpu_lora import Matrices, add_delta, grouping, lay_transposed


@pytest.fixture
def with_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("slots", [[0, 0, 1, 1], [0, 1, 0, 2, 1], [-1, 0, -1], [-1, -1], [2], [0, 0, 0], [2, 1, 0, -1, 1, 1, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("few", [1, 2, 4], ids="few-{}".format)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_token_gets_its_own_adapter_and_others_none(
    slots: list[int], dtype: torch.dtype, few: int, threads: int, with_threads: Callable[[int], None]
) -> None:
    with_threads(threads)
    torch.manual_seed(0)
    tokens, wide, rank, out = len(slots), 12, 4, 10
    x, y = torch.randn(tokens, wide, dtype=dtype), torch.randn(tokens, out, dtype=dtype)
    a = torch.randn(3, 1, rank, wide, dtype=dtype)
    b = [torch.randn(3, 1, width, rank, dtype=dtype) for width in (6, 4)]
    expected = y.clone().float()
    for token, slot in enumerate(slots):
        if slot >= 0:
            low = a[slot, 0].float() @ x[token].float()
            expected[token, :6] += 0.5 * (b[0][slot, 0].float() @ low)
            expected[token, 6:] += 0.5 * (b[1][slot, 0].float() @ low)
    where = grouping(torch.tensor(slots), few)
    room = torch.zeros(3, 1, 2, wide, dtype=dtype), torch.zeros(3, 1, 4, 2, dtype=dtype)
    add_delta(y, x, Matrices(a, b[0]), 0.5, where, 0, 6)
    add_delta(y, x, Matrices(torch.cat([a, room[0]], 2), torch.cat([b[1], room[1]], 3)), 0.5, where, 6, 4, rank)
    tolerance = {torch.float32: 1e-5, torch.float16: 0.03}.get(dtype, 0.3)
    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=tolerance)


def test_rows_that_lie_together_are_a_slice() -> None:
    assert grouping(torch.tensor([1, 1, 0, 0, 0]), few=2).groups == [(0, slice(2, 5)), (1, slice(0, 2))]
    scattered = grouping(torch.tensor([0, 1, 0]), few=2)
    assert isinstance(scattered.groups[0][1], torch.Tensor)


def test_rows_of_adapters_that_have_few_are_taken_one_by_one() -> None:
    slots = torch.tensor([5, 0, 0, 0, 0, 3, -1, 3])
    found = grouping(slots, few=4)
    assert found.groups == [(0, slice(1, 5))]
    assert found.single is not None
    assert found.single.rows.tolist() == [5, 7, 0]
    assert found.single.slots.tolist() == [3, 3, 5]


def test_adapters_that_come_later_are_seen() -> None:
    """vLLM copies an adapter into its slot in place; what is prepared once reads there."""
    a, b = torch.zeros(2, 1, 3, 5), torch.zeros(2, 1, 4, 3)
    matrices = Matrices(a, b)
    a[1, 0, :2].copy_(torch.ones(2, 5))
    b[1, 0, :, :2].copy_(torch.ones(4, 2))
    for few in (1, 2):
        y = torch.zeros(1, 4)
        add_delta(y, torch.ones(1, 5), matrices, 2.0, grouping(torch.tensor([1]), few), 0, 4)
        assert y.tolist() == [[20.0] * 4]


def test_lying_transposed_changes_where_numbers_lie_and_nothing_else() -> None:
    weights = torch.randn(3, 1, 4, 6)
    same, before = weights, weights.clone()
    lay_transposed(weights)
    torch.testing.assert_close(weights, before)
    assert weights is same
    assert weights.stride() == (24, 24, 1, 4)
    place = weights.data_ptr()
    lay_transposed(weights)
    assert weights.data_ptr() == place
    weights[1, 0, :2, :3].copy_(torch.zeros(2, 3))
    assert weights[1].count_nonzero() == 24 - 6
