"""Grouped LoRA arithmetic against the definition, token by token."""

import pytest
import torch

from serve_app.cpu_lora import add_delta, groups


@pytest.mark.parametrize("slots", [[0, 0, 1, 1], [0, 1, 0, 2, 1], [-1, 0, -1], [-1, -1], [2], [0, 0, 0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_token_gets_its_own_adapter_and_others_none(slots: list[int], dtype: torch.dtype) -> None:
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
    where = groups(torch.tensor(slots))
    add_delta(y, x, a, b[0], 0.5, where, 0, 6)
    add_delta(y, x, a, b[1], 0.5, where, 6, 4)
    tolerance = 1e-5 if dtype == torch.float32 else 0.3
    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=tolerance)


def test_rows_that_lie_together_are_a_slice() -> None:
    assert groups(torch.tensor([1, 1, 0, 0, 0])) == [(0, slice(2, 5)), (1, slice(0, 2))]
    scattered = groups(torch.tensor([0, 1, 0]))
    assert isinstance(scattered[0][1], torch.Tensor)
