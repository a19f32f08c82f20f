"""Names, duplicates, overrides, and families of other packages."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import zoo
from zoo.clip.configs import VARIANTS
from zoo.clip.family import FAMILY
from zoo.registry import Registry
from zoo.shared.errors import UserError


def test_names_are_found_with_patterns_underscores_and_families() -> None:
    assert zoo.list_models("clip-vit*") == sorted(n for n in VARIANTS if n.startswith("clip-vit"))
    assert zoo.list_models(family="clip") == sorted(VARIANTS)
    assert zoo.is_model("CLIP_ViT_B_32")
    assert not zoo.is_model("clip-vit-b-33")
    assert zoo.get_config("clip") == VARIANTS["clip-nano"]
    assert zoo.model_info("clip_vit_b_32")["parameters"] == 151_277_313


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: zoo.get_config("clip-vit-b32"), "clip-vit-b-32"),
        (lambda: zoo.list_models(family="klip"), "clip"),
        (lambda: zoo.get_config("clip-debug", patchsize=4), "patch_size"),
        (lambda: zoo.get_config("clip-debug", patch_size=5), "multiple"),
        (lambda: zoo.create_model("clip-debug", vision="timm/no_such_model"), "no_such_model"),
        (lambda: zoo.create_task("clip-debug", learning_rate=1.0), "lr"),
        (lambda: zoo.create_datamodule("clip", batchsize=1), "batch_size"),
    ],
)
def test_a_wrong_name_says_the_right_one(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_duplicates_raise_and_add_nothing() -> None:
    registry = Registry()
    registry.add_family(FAMILY)
    with pytest.raises(ValueError, match="registered already"):
        registry.add_family(FAMILY)
    with pytest.raises(ValueError, match="registered already"):
        registry.add_model("CLIP_debug", "clip", VARIANTS["clip-debug"])
    registry.add_model("clip-mine", "clip", VARIANTS["clip-debug"])
    with pytest.raises(ValueError, match="ClipConfig"):
        registry.add_model("clip-other", "clip", {"embed_dim": 3})
    with pytest.raises(ValueError, match="unknown family"):
        registry.add_model("x", "nobody", VARIANTS["clip-debug"])


OUTSIDE = """
from dataclasses import dataclass
from zoo.registry import FamilySpec

@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 3

SPEC = FamilySpec(name="outside", title="Outside", paper="none", year=2026, config=Config,
    variants={"outside-debug": Config()}, parameter_counts={"outside-debug": 12}, default_model="outside-debug",
    model="outside_family:build", task="", datamodule="", preprocessor="", recipes="")

def build(config):
    import torch
    return torch.nn.Linear(config.width, 3)
"""


def test_a_family_of_another_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "outside_family.py").write_text(OUTSIDE)
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo.families]\noutside = outside_family:SPEC\n")
    code = (
        "import zoo; from zoo.factory import count_parameters; "
        "assert zoo.list_models(family='outside') == ['outside-debug']; "
        "assert count_parameters('outside-debug') == 12; "
        "assert zoo.create_model('outside-debug', width=5).in_features == 5"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=_with_path(tmp_path))


def _with_path(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(folder)}


def test_list_and_help_answer_at_once() -> None:
    for words in (["list"], ["--help"]):
        best = min(_seconds(words) for _ in range(4))
        assert best < 0.5, f"zoo {' '.join(words)} took {best:.2f} s"


def _seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "zoo", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def test_user_errors_are_value_errors() -> None:
    assert issubclass(UserError, ValueError)
