"""Who may import whom, read from the code; and that the front door stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.families import FAMILIES

ROOT = Path(__file__).parent.parent
FOLDERS = ("zoo", "shared", *(path.split(".")[1] for path in FAMILIES))
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Absolute names of the modules of ours that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or inside_family(path), f"{path}: relative import across folders"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.level == 0 else set()
    return {name for name in found if name.split(".")[0] == "zoo"}


def inside_family(path: Path) -> bool:
    return path.relative_to(ROOT).parts[0] not in ("zoo", "shared")


def families_named(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if "." in name} & set(FOLDERS[2:])


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "zoo" else ("zoo", *parts))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    folder, names = path.relative_to(ROOT).parts[0], imports(path)
    if folder == "shared":
        assert all(name.split(".")[1] == "shared" for name in names), "shared imports no other folder of ours"
    elif folder == "zoo":
        assert not families_named(names), "the front door reaches families by name only"
    else:
        assert families_named(names) <= {folder}, "a family imports no other family"
        own = {name for name in names if not name.startswith("zoo.verify.cases.")}
        front = {name.split(".")[1] for name in own} - {folder, "shared"}
        assert front <= {"registry", "weights", "factory"}, f"a family imports {front} of the front door"


@pytest.mark.parametrize("family", FOLDERS[2:])
def test_inside_a_family_configs_then_model_then_the_rest(family: str) -> None:
    folder = ROOT / family
    assert not {n for n in imports(folder / "configs.py") if n.startswith(f"zoo.{family}")}

    def own(module: str) -> set[str]:
        return {n.split(".")[2] for n in imports(folder / f"{module}.py") if n.startswith(f"zoo.{family}.")}

    # Parts of the model may lie in files of their own, which know the configs and nothing else.
    assert not {part for part in own("model") if part != "configs" and own(part) - {"configs"}}


@pytest.mark.parametrize("family", FOLDERS[2:])
def test_the_model_is_short_and_says_its_paper_first(family: str) -> None:
    text = (ROOT / family / "model.py").read_text()
    assert len(text.splitlines()) <= 310
    assert "arXiv" in text.splitlines()[0]


def test_the_registry_imports_no_torch_and_writes_the_families_nowhere_else() -> None:
    code = "import zoo, sys; zoo.list_models(); zoo.model_info('clip-debug'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import zoo.cli, sys; zoo.cli.main(['list']); zoo.cli.main([]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_no_public_function_shares_a_modules_name() -> None:
    import zoo

    for name in zoo.__all__:
        assert not (ROOT / "zoo" / f"{name}.py").exists(), name


def test_every_package_is_listed_for_installation() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {module(path.parent / "x").removesuffix(".x") for path in FILES if path.name == "__init__.py"}
    assert found == set(settings["packages"]) == set(settings["package-dir"])


@pytest.mark.slow
def test_the_wheel_holds_every_file_and_only_zoo(tmp_path: Path) -> None:
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    expected = {module(path).replace(".", "/") + ".py" for path in FILES}
    assert expected <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"zoo"}
    assert "zoo/py.typed" in names
    assert any(name.endswith("clip/recipes/default.yaml") for name in names)
