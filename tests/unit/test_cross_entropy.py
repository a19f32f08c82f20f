"""The chunked cross-entropy against PyTorch's own, its memory, and what a FLOP counter sees of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.shared import cross_entropy
from zoo.shared.cross_entropy import IGNORE, cross_entropy_rows, cross_entropy_sum
from zoo.shared.machine import forget_peak, peak_memory
from zoo.shared.runs.throughput import ForwardFlops

ROWS, WIDTH, VOCAB = 37, 24, 101


@pytest.fixture(autouse=True)
def _several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK", 8 * VOCAB)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, generator=draw, dtype=dtype).requires_grad_()
    matrix = torch.randn(VOCAB, WIDTH, generator=draw, dtype=dtype).requires_grad_()
    targets = torch.randint(VOCAB, (ROWS,), generator=draw)
    targets[[3, 20, 36]] = IGNORE
    return hidden, matrix, targets


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_and_gradients_are_those_of_pytorch(dtype: torch.dtype) -> None:
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
    hidden, matrix, targets = inputs(dtype)
    expected = F.cross_entropy(F.linear(hidden, matrix), targets, reduction="sum", ignore_index=IGNORE)
    gradients = torch.autograd.grad(0.3 * expected, (hidden, matrix))
    found = cross_entropy_sum(hidden, matrix, targets)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for a, b in zip(torch.autograd.grad(0.3 * found, (hidden, matrix)), gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_gradcheck() -> None:
    hidden, matrix, targets = inputs()
    assert torch.autograd.gradcheck(lambda h, m: cross_entropy_sum(h, m, targets), (hidden, matrix))


def test_rows() -> None:
    hidden, matrix, targets = inputs()
    expected = F.cross_entropy(F.linear(hidden, matrix).float(), targets, reduction="none", ignore_index=IGNORE)
    torch.testing.assert_close(cross_entropy_rows(hidden, matrix, targets), expected)


@pytest.mark.parametrize("learns", [(True, False), (False, True), (False, False)])
def test_only_what_is_asked_for_gets_a_gradient(learns: tuple[bool, bool]) -> None:
    hidden, matrix, targets = inputs()
    hidden.requires_grad_(learns[0])
    matrix.requires_grad_(learns[1])
    loss = cross_entropy_sum(hidden, matrix, targets)
    assert loss.requires_grad == any(learns)
    if any(learns):
        loss.backward()
    assert (hidden.grad is not None, matrix.grad is not None) == learns


def test_autocast_computes_in_bfloat16_and_keeps_the_gradient_of_the_matrix_in_float32() -> None:
    hidden, matrix, targets = inputs(torch.float32)
    exact = cross_entropy_sum(hidden, matrix, targets)
    exact_gradient = torch.autograd.grad(exact, matrix)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy_sum(hidden, matrix, targets)
    (gradient,) = torch.autograd.grad(loss, matrix)
    assert loss.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=2e-2, atol=0)
    assert not torch.equal(loss, exact)
    assert float((gradient - exact_gradient).norm() / exact_gradient.norm()) < 2e-2


def test_no_tensor_of_all_logits_is_made() -> None:
    """Every tensor that is created is looked at."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                self.size = max(self.size, out.numel())
            return out

    hidden, matrix, targets = inputs(torch.float32)
    with Largest() as seen:
        cross_entropy_sum(hidden, matrix, targets)
    assert seen.size == max(8 * VOCAB, VOCAB * WIDTH)


def test_the_peak_of_a_whole_step_stays_below_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident memory of the process, forward and backward; PyTorch's own needs the logits several times."""
    monkeypatch.undo()  # chunks of their real size
    rows, vocab = 2048, 32768
    hidden, matrix = torch.randn(rows, 16).requires_grad_(), torch.randn(vocab, 16).requires_grad_()
    targets, logits = torch.arange(rows), 4 * rows * vocab / 1e6

    def peak(loss: Callable[[], Tensor]) -> float:
        hidden.grad = matrix.grad = None
        forget_peak()
        before = peak_memory()
        loss().backward()
        return peak_memory() - before

    assert peak(lambda: cross_entropy_sum(hidden, matrix, targets)) < 0.5 * logits
    assert peak(lambda: F.cross_entropy(hidden @ matrix.T, targets, reduction="sum")) > logits


def test_a_counter_of_forward_flops_sees_the_forward_pass_only() -> None:
    hidden, matrix, targets = inputs(torch.float32)
    with ForwardFlops() as counter:
        cross_entropy_sum(hidden, matrix, targets)
    assert counter.flops == 2 * ROWS * WIDTH * VOCAB


def test_tied_embeddings_get_both_gradients() -> None:
    table = nn.Embedding(VOCAB, WIDTH)
    tokens = torch.randint(VOCAB, (ROWS,), generator=torch.Generator().manual_seed(3))
    expected = F.cross_entropy(F.linear(table(tokens), table.weight), tokens.flip(0), reduction="sum")
    (gradient,) = torch.autograd.grad(expected, table.weight)
    (found,) = torch.autograd.grad(cross_entropy_sum(table(tokens), table.weight, tokens.flip(0)), table.weight)
    torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-5)
