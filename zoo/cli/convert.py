"""``zoo convert W OUT --to FORMAT``: weights between formats, with a proof that nothing changed."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.registry import get_family, resolve
from zoo.shared.errors import UserError
from zoo.weights import Found, build_found, card_of, identify, name_of, save_weights

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def main(words: list[str]) -> int:
    """Convert weights; returns the exit code."""
    args = _parser().parse_args(words)
    push = _repository(args.push) if args.push else None
    found = _settle(identify(args.weights), args.set)
    spec = get_family(found.family)
    if args.to != "zoo" and args.to not in spec.converters:
        raise UserError(f"{spec.name} has no format {args.to!r}; choose zoo or {', '.join(spec.converters)}")
    model = build_found(found, found.config, _DTYPES[args.dtype] if args.dtype else None).eval()
    _say(f"found    {spec.title} in {found.format} format at {args.weights}")
    _say(f"         {_summary(found, model)}")
    for name, sentence in found.assumed.items():
        _say(f"note     {sentence}; `--set {name}=VALUE` settles it")
    preprocessor = _preprocessor(found)
    library = "zoo" if args.to == "zoo" else resolve(spec.converters[args.to]).library
    card = card_of(spec, model, library=library, origin=args.weights)
    out = save_weights(model, args.out, args.to, preprocessor=preprocessor, card=card)
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    _say(f"wrote    {out} ({', '.join(file.name for file in files)})")
    _prove(model, out, args.to)
    if push:
        _say(f"pushed   {_push(out, push)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zoo convert",
        description="Convert weights from any format that zoo reads to one that another library reads.",
    )
    parser.add_argument("weights", metavar="W", help="a folder, a file or hf:owner/name")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; a file for --to openai")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="zoo, hf, openai or open_clip")
    parser.add_argument("--dtype", choices=sorted(_DTYPES), help="type to write; default: 16-bit becomes float32")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE",
        help="settle a field that the weights leave open, such as activation=quick_gelu",
    )  # fmt: skip
    parser.add_argument("--push", metavar="hf:OWNER/NAME", help="upload the result to the Hugging Face Hub")
    return parser


def _settle(found: Found, settings: list[str]) -> Found:
    """Replace fields of the config that the weights do not settle."""
    if not settings:
        return found
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in found.assumed:
            open_fields = ", ".join(found.assumed) or "none"
            raise UserError(f"--set {setting}: the weights settle all other fields; open are: {open_fields}")
        values[name] = int(text) if text.isdigit() else text
    try:
        config = dataclasses.replace(found.config, **values)
    except (TypeError, ValueError) as error:
        raise UserError(f"--set {' '.join(settings)}: {error}") from error
    assumed = {name: sentence for name, sentence in found.assumed.items() if name not in values}
    return dataclasses.replace(found, config=config, assumed=assumed)


def _preprocessor(found: Found) -> Any | None:
    """The preprocessing beside the weights, whose statistics move with them; None if the family's does not fit."""
    try:
        return resolve(get_family(found.family).preprocessor).load(found.source.folder, found.config)
    except UserError as error:
        _say(f"note     no preprocessing files are written: {error}")
        return None


def _summary(found: Found, model: nn.Module) -> str:
    name = name_of(get_family(found.family), found.config)
    parameters = sum(p.numel() for p in model.parameters())
    fields = dataclasses.asdict(found.config)
    shown = ", ".join(f"{key} {value}" for key, value in fields.items())
    return f"{name or 'no registered model'}, {parameters:,} parameters: {shown}"


def _prove(model: nn.Module, out: Path, format: str) -> None:
    """Read the export back and compare every tensor bit for bit.

    Raises:
        UserError: Something changed on the way.
    """
    again = identify(out)
    if again.format != format:
        raise UserError(f"{out} reads back as {again.format}, not {format}; please report this")
    here, there = model.state_dict(), build_found(again, again.config, next(model.parameters()).dtype).state_dict()
    changed = [key for key in here if key not in there or not _same(here[key], there[key])]
    if changed or len(here) != len(there):
        raise UserError(f"{out} reads back with {len(changed)} changed tensors ({changed[:3]}); please report this")
    _say(
        f"proof    read back: {len(here)} tensors, {sum(t.numel() for t in here.values()):,} values, bit for bit equal"
    )
    file = again.source.weights_file
    with file.open("rb") as content:
        _say(f"sha256   {hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in type, shape and every bit (so that not-a-number equals itself)."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8))


def _repository(reference: str) -> str:
    name = reference.removeprefix("hf:")
    if not reference.startswith("hf:") or name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"--push {reference}: write hf:owner/name")
    return name


def _push(out: Path, repository: str) -> str:
    """Upload the result, making the repository where there is none."""
    import huggingface_hub

    try:
        huggingface_hub.create_repo(repository, exist_ok=True)
        if out.is_dir():
            huggingface_hub.upload_folder(repo_id=repository, folder_path=out, commit_message="Weights written by zoo")
        else:
            huggingface_hub.upload_file(repo_id=repository, path_or_fileobj=out, path_in_repo=out.name)
    except Exception as error:  # sockets, HTTP and the Hub each have errors of their own
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"{out} is written, but was not pushed: {reason:.200}; `hf auth login` and try again"
        ) from error
    return f"https://huggingface.co/{repository}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
