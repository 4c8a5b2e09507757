"""Grouped LoRA arithmetic against the definition, token by token."""

import pytest
import torch

from serve_app.cpu_lora import add_delta, grouping


@pytest.mark.parametrize("slots", [[0, 0, 1, 1], [0, 1, 0, 2, 1], [-1, 0, -1], [-1, -1], [2], [0, 0, 0], [2, 1, 0, -1, 1, 1, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("few", [1, 2, 4], ids="few-{}".format)
def test_every_token_gets_its_own_adapter_and_others_none(slots: list[int], dtype: torch.dtype, few: int) -> None:
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
    where = grouping(torch.tensor(slots), few, many=1)
    add_delta(y, x, a, b[0], 0.5, where, 0, 6)
    add_delta(y, x, a, b[1], 0.5, where, 6, 4)
    tolerance = 1e-5 if dtype == torch.float32 else 0.3
    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=tolerance)


def test_rows_that_lie_together_are_a_slice() -> None:
    assert grouping(torch.tensor([1, 1, 0, 0, 0]), few=2).groups == [(0, slice(2, 5)), (1, slice(0, 2))]
    scattered = grouping(torch.tensor([0, 1, 0]), few=2)
    assert isinstance(scattered.groups[0][1], torch.Tensor)


def test_only_many_adapters_with_few_rows_are_batched() -> None:
    slots = torch.tensor([5, 0, 0, 0, 0, 3, -1, 3])
    found = grouping(slots, few=4, many=2)
    assert found.groups == [(0, slice(1, 5))]
    assert found.batched is not None
    named = zip(found.batched.tolist(), *(one.tolist() for one in found.places), strict=True)
    assert sorted(named) == [(0, 5, 0), (5, 3, 0), (7, 3, 1)]
    assert found.depth == 2
    assert grouping(slots, few=4, many=3).batched is None
