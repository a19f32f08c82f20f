"""What the running Python's standard library says of itself: docstrings, and the language's help topics.

Modern technical English with examples of code, on every machine without a download. Nothing is imported: sources are
parsed. The texts differ between versions of Python, so figures on them do too.
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from zoo.shared.text.documents import Document
from zoo.shared.text.prepare import is_held_out

HELD_OUT = 0.05  # of the modules

_ASIDE = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}
_TOPICS = "pydoc_data/topics.py"


def release_year() -> int:
    """The year of the running Python: the last one in its copyright notice."""
    notice = sys.copyright.partition("\n")[0]
    return max(int(word) for word in notice.replace("-", " ").split() if word.isdigit() and len(word) == 4)


def documents(folder: Path | None = None) -> list[Document]:
    """A document for each module with docstrings and each help topic, in the order of their names.

    A module's document has its docstring, then for each class and function the heading and the docstring.

    Args:
        folder: A standard library; None: the running Python's.
    """
    root = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
    year = release_year()
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if _ASIDE.isdisjoint(name.parts) and name.as_posix() != _TOPICS and (text := module_text(path)):
            found.append(Document(text, name.as_posix(), year))
    return found + [Document(text, f"topic {name}", year) for name, text in topics(root / _TOPICS)]


def module_text(path: Path) -> str:
    """Docstrings of a module, each below the heading that it belongs to; empty where there are none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # sources that are wrong on purpose
        return ""
    sections = list(_sections(tree))
    return "\n\n".join(sections) + "\n" if sections else ""


def _sections(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield text if isinstance(node, ast.Module) else f"{_heading(node)}\n{_indented(text)}"
    for child in getattr(node, "body", ()):  # of classes, functions, and what stands under a condition
        yield from _sections(child)


def _heading(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{word} {node.name}({ast.unparse(node.args)}):"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in inspect.cleandoc(text).split("\n"))


def topics(path: Path) -> Iterator[tuple[str, str]]:
    """Names and texts of the help topics, which are one dictionary of texts; none where there is no such file."""
    if not path.is_file():
        return
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            yield from sorted(ast.literal_eval(node.value).items())


def split(folder: Path | None = None) -> tuple[list[Document], list[Document]]:
    """The documents to train on and those that are held out, by their names.

    Args:
        folder: As for :func:`documents`.
    """
    found = documents(folder)
    train = [one for one in found if not is_held_out(one.id, HELD_OUT)]
    return train, [one for one in found if is_held_out(one.id, HELD_OUT)]
