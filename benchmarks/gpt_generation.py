"""GPT-2's cached generation beside transformers: the rows `gpt-generate-*` of `zoo bench` in float32 and int8 alone.

The compiled and bfloat16 modes take many minutes on a CPU and win nothing there.

Command: python benchmarks/gpt_generation.py [--batch 16] [--cache default|static] [--threads 1]
Hardware: one CPU core, 4 GB. Duration: 3 minutes.
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch

from zoo.gpt.bench import prepare_generate
from zoo.shared.bench import Mode, Setting


def main() -> None:
    """Time the sides in turns and print ratios of the minima."""
    parser = argparse.ArgumentParser(description="GPT-2's cached generation beside transformers.")
    parser.add_argument("--batch", type=int, default=16, help="prompts at once")
    parser.add_argument("--cache", choices=("default", "static"), default="default", help="transformers' cache")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after a warm-up")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(args.threads)
    plain, int8 = Setting(best=True), Setting(best=True, mode=Mode(precision="int8"))
    cases = {
        "transformers, float32": prepare_generate("peer", plain, batch=args.batch, cache=args.cache),
        "zoo, float32": prepare_generate("zoo", plain, batch=args.batch, cache=args.cache),
        "zoo, int8": prepare_generate("zoo", int8, batch=args.batch, cache=args.cache),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(args.rounds + 1):
        for name, case in cases.items():
            began = time.perf_counter()
            case.call()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    peer = min(seconds["transformers, float32"])
    for name, found in seconds.items():
        print(f"{name:<22} {min(found):6.2f} s  {peer / min(found):5.2f}x")


if __name__ == "__main__":
    main()
