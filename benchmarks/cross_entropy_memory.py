"""Peak memory of a language model's loss, forward and backward: in chunks of the vocabulary, and with all logits.

Command: python benchmarks/cross_entropy_memory.py [--tokens 4096] [--vocab 50257] [--width 768]
Hardware: one CPU core, 3 GB. Duration: under a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.shared.cross_entropy import cross_entropy_sum
from zoo.shared.machine import forget_peak, peak_memory


def main() -> None:
    """Measure both ways on the same numbers, check that they agree, and print what each added to the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch (default %(default)s)")
    parser.add_argument("--vocab", type=int, default=50257, help="size of the vocabulary (default %(default)s)")
    parser.add_argument("--width", type=int, default=768, help="of the states (default %(default)s)")
    args = parser.parse_args()
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(args.tokens, args.width, generator=draw).requires_grad_()
    matrix = (0.02 * torch.randn(args.vocab, args.width, generator=draw)).requires_grad_()
    targets = torch.randint(args.vocab, (args.tokens,), generator=draw)

    def measure(loss: Callable[[], Tensor]) -> tuple[float, float]:
        states.grad = matrix.grad = None
        forget_peak()
        before = peak_memory()
        value = loss()
        value.backward()
        return peak_memory() - before, float(value.detach()) / args.tokens

    chunked, ours = measure(lambda: cross_entropy_sum(states, matrix, targets))
    whole, theirs = measure(lambda: F.cross_entropy(F.linear(states, matrix).float(), targets, reduction="sum"))
    assert abs(ours - theirs) < 1e-4 * theirs
    logits = 4e-6 * args.tokens * args.vocab
    gradient = 4e-6 * args.vocab * args.width
    for name, size in (
        ("the logits alone, float32", logits), ("the gradient of the matrix alone", gradient),
        ("chunks: zoo's loss and its gradients", chunked), ("all at once: torch's loss and its gradients", whole),
    ):  # fmt: skip
        sys.stdout.write(f"{name:<45}{size:8,.0f} MB\n")


if __name__ == "__main__":
    main()
