"""The peer of `zoo train gpt`: a plain loop with nanoGPT's published settings for small CPU runs, for the same time.

Those settings are: 4 layers, 4 heads, width 128, context 64, batch 12, characters, dropout 0, AdamW with rate 1e-3
down to 1e-4 along a cosine, betas 0.9 and 0.99, decay 0.1, clip 1, 100 steps of warm-up. Here the cosine ends when the
time is up, which is the best it can be for a given time. Data, split and measure are those of `zoo train gpt`: held-out
plays, every character predicted once from half a context or more, in bits per byte.

    python benchmarks/small_cpu_gpt.py --seconds 300 --threads 2
"""

from __future__ import annotations

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.shared.text.plays import split

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
RATE, LAST, WARMUP = 1e-3, 1e-4, 100


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class CharacterModel(nn.Module):
    def __init__(self, characters: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                small = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if small else 0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.positions.weight[: x.shape[1]]
        return F.linear(self.norm(self.layers(x)), self.tokens.weight)


def train(model: CharacterModel, text: Tensor, seconds: float) -> tuple[int, float]:
    """Train for so many seconds; returns the steps and the last loss."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    draw = torch.Generator().manual_seed(0)
    began, step, loss = time.perf_counter(), 0, torch.zeros(())
    while (spent := time.perf_counter() - began) < seconds:
        rate = LAST + (RATE - LAST) * 0.5 * (1 + math.cos(math.pi * spent / seconds))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARMUP)
        starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=draw)
        windows = torch.stack([text[s : s + CONTEXT + 1] for s in starts])
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    return step, loss.item()


@torch.no_grad()
def nats(model: CharacterModel, text: Tensor) -> float:
    """Loss of a whole text, every character but the first predicted once from half a context or more."""
    total, half = 0.0, CONTEXT // 2
    first = model(text[None, :CONTEXT])[0]
    total += F.cross_entropy(first, text[1 : CONTEXT + 1], reduction="sum").item()
    rest = text[half + 1 :].unfold(0, CONTEXT + 1, half)  # each predicts its second half
    for windows in rest.split(256):
        logits = model(windows[:, :-1])[:, half:]
        total += F.cross_entropy(logits.flatten(0, 1), windows[:, half + 1 :].flatten(), reduction="sum").item()
    done = CONTEXT + 1 + half * len(rest)
    if done < len(text):
        tail = text[-CONTEXT - 1 :]
        logits = model(tail[None, :-1])[0, done - len(text) :]
        total += F.cross_entropy(logits, tail[done - len(text) :], reduction="sum").item()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    parts = ["".join(play.text for play in part) for part in split()]
    characters = sorted(set("".join(parts)))
    number = {character: i for i, character in enumerate(characters)}
    known, held_out = (torch.tensor([number[c] for c in part]) for part in parts)
    model = CharacterModel(len(characters))
    steps, last = train(model, known, options.seconds)
    size = len(parts[1][1:].encode())
    print(json.dumps({
        "bits_per_byte": nats(model.eval(), held_out) / math.log(2) / size,
        "steps": steps, "characters_seen": steps * BATCH * CONTEXT, "last_loss": last, "held_out_bytes": size,
        "parameters": sum(p.numel() for p in model.parameters()), "seconds": options.seconds,
        "threads": options.threads,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
