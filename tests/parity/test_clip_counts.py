"""Exact parameter counts of the nine published sizes, against open_clip's own classes."""

from __future__ import annotations

import open_clip
import pytest
import torch

import zoo
from zoo.factory import count_parameters

NAMES = {
    "clip-rn50": "RN50", "clip-rn101": "RN101", "clip-rn50x4": "RN50x4", "clip-rn50x16": "RN50x16",
    "clip-rn50x64": "RN50x64", "clip-vit-b-32": "ViT-B-32", "clip-vit-b-16": "ViT-B-16",
    "clip-vit-l-14": "ViT-L-14", "clip-vit-l-14-336": "ViT-L-14-336",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_count(name: str) -> None:
    config = open_clip.get_model_config(NAMES[name])
    with torch.device("meta"):
        theirs = open_clip.CLIP(**config)
    expected = sum(p.numel() for p in theirs.parameters())
    assert zoo.model_info(name)["parameters"] == count_parameters(name) == expected


def test_every_published_size_is_compared() -> None:
    assert {*NAMES, "clip-debug", "clip-nano"} == set(zoo.list_models(family="clip"))
