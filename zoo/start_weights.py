"""The weights that a run starts from: the same for all its processes, and not asked for again when it is resumed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.distributed import TCPStore

from zoo.registry import canonical, family_of
from zoo.shared.convert.source import open_source
from zoo.shared.distributed import agree, first_process, world_size
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path
from zoo.shared.runs.folder import RunFolder, newest_weights

NEWEST = "newest"  # as weights: those of the model's newest finished run
_TOLD = "ZOO_START_WEIGHTS"  # in the environment, and the key in torchrun's store
_KEPT = (".json", ".txt", ".bpe", ".model", ".tiktoken")  # settings and tokenizers


def choose_newest(console: Console, name: str, settings: dict[str, Any]) -> None:
    """Put the folder of the model's newest finished run in the place of the word ``newest``.

    The first process looks for it: another run may end while the processes start.
    """
    if settings["weights"] == NEWEST:
        family, model = family_of(name).name, canonical(name)
        settings["weights"] = _found_by_first(lambda: str(newest_weights(family, model=model).resolve()))
        console.print(f"starting from {settings['weights']}", highlight=False, soft_wrap=True)


def _found_by_first(find: Callable[[], str]) -> str:
    """What ``find`` gives the first process, in all of them, whether or not they have met yet."""
    if world_size() > 1:
        found, refused = "", ""
        if first_process():
            try:
                found = find()
            except UserError as error:  # the others are waiting
                refused = str(error)
        found, refused = agree((found, refused))
        if refused:
            raise UserError(refused)
        return found
    torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if first_process():
        found = os.environ[_TOLD] = find()  # the processes that Lightning starts get the environment
        if torchrun:
            _store().set(_TOLD, found)
        return found
    if torchrun:
        return _store().get(_TOLD).decode()
    if _TOLD not in os.environ:
        raise UserError("these processes cannot agree on the newest run before they meet; give --weights FOLDER")
    return os.environ[_TOLD]


def _store() -> TCPStore:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))


def start_from(datamodule: Any, run: RunFolder, weights: str, *, resumed: bool) -> None:
    """Tell the data which weights are trained on.

    What lies beside them is kept in the run's folder, so that a run goes on from a checkpoint when they are gone.

    Args:
        datamodule: Takes what belongs to the weights, such as their tokenizer.
        run: The run's folder.
        weights: A reference that can be opened.
        resumed: A checkpoint holds the weights by now.
    """
    kept = run.path / "start"
    if resumed and kept.is_dir():
        datamodule.start_from(kept)
        return
    folder = open_source(weights).folder
    if first_process():
        _copy_settings(folder, kept)
    datamodule.start_from(folder)


def _copy_settings(folder: Path | None, to: Path) -> None:
    """Copy what is no weights from ``folder``; weights that are a file alone have nothing beside them."""
    to.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()) if folder else ():
        if path.suffix in _KEPT and path.is_file() and not path.name.endswith(".index.json"):
            with atomic_path(to / path.name) as part:
                shutil.copyfile(path, part)
