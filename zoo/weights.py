"""Weights in and out of models: zoo's own folders, and every family's foreign formats. Imports no family."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from zoo.factory import build_model
from zoo.registry import FamilySpec, get_family, registry, resolve
from zoo.shared.convert.formats import Converter, Recognised, save_tensors, sync
from zoo.shared.convert.rules import RuleTable, identity
from zoo.shared.convert.source import Source, open_source, parse_json
from zoo.shared.errors import UserError
from zoo.shared.files import atomic_path, write_json, write_text
from zoo.shared.runs.card import model_card

WEIGHTS_FILE = "model.safetensors"
# What a folder of weights consists of. A folder with anything else in it is never overwritten.
_OURS = {
    WEIGHTS_FILE,
    "README.md",
    "config.json",
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "generation_config.json",
    "params_shapes.json",
    "model.bin",
    "vocabulary.json",
    "added_tokens.json",
    "netG.pth",
    "netD.pth",
    "gen_params.jl",
    "discrim_params.jl",
    "normalizer.json",
    *(f"params_{number}.npy" for number in range(10)),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Weights and what they are.

    Attributes:
        family: The family's name.
        format: ``zoo``, or the name of one of the family's converters.
        config: The config that fits them.
        source: Where they lie.
        assumed: Fields of the config that the weights do not settle, each with a sentence about it.
        part: As for :class:`~zoo.shared.convert.formats.Recognised`.
    """

    family: str
    format: str
    config: Any
    source: Source
    assumed: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None


def identify(reference: str | Path) -> Found:
    """Find out what weights are, by their content; the tensors are not read where their shapes are enough.

    Args:
        reference: A folder, a file or ``hf:owner/name``.

    Raises:
        UserError: Nothing is there, it is damaged, or no family knows it.
    """
    source = open_source(reference)
    settings = _own_settings(source)
    if settings:
        return _from_settings(settings, source)
    specs = list(registry().families.values())
    for spec in specs:
        for name, converter in _converters(spec).items():
            recognised = converter.recognise(source)
            if recognised is not None:
                return _found(spec, name, recognised, source)
    for spec in specs:
        for converter in _converters(spec).values():
            recognised = converter.infer(source.shapes)
            if recognised is not None:
                return _found(spec, "zoo", recognised, source)
    known = ", ".join(spec.title for spec in specs)
    keys = list(source.shapes)[:3]
    raise UserError(f"{reference} holds no model that zoo knows ({known}); its first keys are {', '.join(keys)}")


def load(
    path: str | Path, *, dtype: torch.dtype | None = None, overrides: Mapping[str, Any] | None = None
) -> nn.Module:
    """Load a model from weights alone; family and sizes come from their settings or shapes.

    16-bit floating point weights, as OpenAI publishes CLIP's, are widened to float32 unless ``dtype`` is given:
    that loses nothing, runs on every CPU and can be trained. Other types are kept.

    Args:
        path: A folder, a file or ``hf:owner/name``, in zoo's format or any that a family converts.
        dtype: Type of the floating point parameters and buffers.
        overrides: Fields of the config to replace, where the weights do not settle them.

    Returns:
        The model, in ``eval()`` mode, on the CPU.

    Raises:
        UserError: The weights cannot be read, are of no known model, or do not fit it.
    """
    found = identify(path)
    config = found.config
    if overrides:
        try:
            config = dataclasses.replace(config, **overrides)
        except (TypeError, ValueError) as error:
            raise UserError(f"{found.family}: {error}") from error
    for name, sentence in found.assumed.items():
        if name not in (overrides or {}):
            _warn(f"{path}: {sentence}")
    return build_found(found, config, dtype).eval()


def load_into(family: str, config: Any, reference: str | Path, *, dtype: torch.dtype | None = None) -> nn.Module:
    """Build a model from a config that is known, with weights that must fit it.

    Args:
        family: The family's name.
        config: The family's config. What only matters while training may differ from the weights' own.
        reference: A folder, a file or ``hf:owner/name``.
        dtype: As for :func:`load`.

    Returns:
        The model, on the CPU, in training mode.

    Raises:
        UserError: The weights are of another family or of another size, or keys do not fit.
    """
    found = identify(reference)
    if found.family != get_family(family).name:
        raise UserError(f"{reference} holds a {found.family} model, not {family}; `zoo.load` takes it as it is")
    mine, theirs = _architecture(config), _architecture(found.config)
    differing = [
        f"{key} is {theirs.get(key)!r}, not {mine.get(key)!r}"
        for key in mine
        if key not in found.assumed and mine.get(key) != theirs.get(key)
    ]
    if differing:
        raise UserError(f"{reference} does not fit: {'; '.join(differing)}; choose the model of that size")
    return build_found(found, config, dtype)


def save_weights(
    model: nn.Module,
    path: str | Path,
    format: str = "zoo",
    preprocessor: Any | None = None,
    card: str | None = None,
) -> Path:
    """Write a model so that zoo, or another library, can load it.

    The files are written beside ``path`` and renamed when complete, so that a killed process leaves nothing
    under ``path``. Weights that lie there already are replaced; anything else is left alone.

    Args:
        model: A model of a registered family.
        path: A folder; a file for formats that are one file.
        format: ``zoo``, or one of the family's foreign formats.
        preprocessor: Its tokenizer and transforms, saved beside the weights; by default the family's standard ones.
        card: Text of ``README.md``; by default it states model, paper and parameters.

    Returns:
        ``path``.

    Raises:
        UserError: Unknown format, one that cannot hold this model, or a path that must not be overwritten.
    """
    spec, path = family_of_model(model), Path(path)
    if format != "zoo" and format not in spec.converters:
        raise UserError(f"{spec.name} has no format {format!r}; choose zoo or {', '.join(spec.converters)}")
    if preprocessor is None:
        with suppress(UserError):  # a vocabulary of its own: the files of the standard one would be wrong
            preprocessor = resolve(spec.preprocessor).for_model(model.config)
    if format == "zoo":
        text = card or card_of(spec, model, library="zoo")
        with _new_folder(path) as folder:
            _write_own(spec, model, preprocessor, folder)
            write_text(folder / "README.md", text)
        return path
    converter: Converter = resolve(spec.converters[format])
    if converter.single_file:
        if path.is_dir():
            raise UserError(f"{path} is a folder; the format {format} is one file, such as {path / 'model.pt'}")
        with tempfile.TemporaryDirectory() as folder_name, atomic_path(path) as temporary:
            shutil.copyfile(converter.export(model, preprocessor, Path(folder_name)), temporary)
        return path
    text = card or card_of(spec, model, library=converter.library)
    with _new_folder(path) as folder:
        converter.export(model, preprocessor, folder)
        write_text(folder / "README.md", text)
    return path


def card_of(spec: FamilySpec, model: nn.Module, *, library: str, origin: str = "") -> str:
    """A card that states what is known of any model: name, paper, parameters, and where it came from."""
    name = name_of(spec, model.config) or spec.name
    parameters = sum(p.numel() for p in model.parameters())
    return model_card(name, family=spec.title, paper=spec.paper, parameters=parameters, library=library, origin=origin)


def family_of_model(model: nn.Module) -> FamilySpec:
    """The family that a model's class belongs to; no other family is imported.

    Raises:
        UserError: It is no model of a registered family.
    """
    classes = {f"{kind.__module__}:{kind.__qualname__}" for kind in type(model).__mro__}
    for spec in registry().families.values():
        if spec.model in classes:
            return spec
    raise UserError(f"{type(model).__name__} is no model of a registered family; pass what zoo.create_model returns")


def name_of(spec: FamilySpec, config: Any) -> str | None:
    """The registered name of a config's sizes, if it has one."""
    wanted = _architecture(config)
    for name, (family, registered) in registry().models.items():
        if family == spec.name and _architecture(registered) == wanted:
            return name
    return None


def _architecture(config: Any) -> dict[str, Any]:
    """The fields that weights depend on, as the config itself says it; all fields if it says nothing."""
    told: Callable[[], dict[str, Any]] | None = getattr(config, "architecture", None)
    return told() if told else dataclasses.asdict(config)


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=3)


def _converters(spec: FamilySpec) -> dict[str, Converter]:
    return {name: resolve(path) for name, path in spec.converters.items()}


def _found(spec: FamilySpec, name: str, recognised: Recognised, source: Source) -> Found:
    return Found(
        family=spec.name,
        format=name,
        config=recognised.config,
        source=source,
        assumed=recognised.assumed,
        part=recognised.part,
    )


def _own_settings(source: Source) -> dict[str, Any]:
    """What zoo wrote about its own weights: beside them, or inside of a file that was moved away alone."""
    if source.config:
        return source.config if source.config.get("format") == "zoo" else {}
    stored = source.metadata.get("zoo")
    if isinstance(stored, str):
        return parse_json(stored, str(source.path))
    return stored if isinstance(stored, dict) and "family" in stored else {}


def _from_settings(settings: Mapping[str, Any], source: Source) -> Found:
    family, values = settings.get("family"), settings.get("config")
    if not isinstance(family, str) or not isinstance(values, dict):
        raise UserError(f"the settings of {source.path} name no family and config; write them again with save_weights")
    if family not in registry().families:
        raise UserError(f"{source.path} holds a model of the family {family!r}, which is not installed")
    spec = get_family(family)
    known = {f.name for f in dataclasses.fields(spec.config)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(
            f"{source.path} has settings that this zoo {zoo.__version__} does not know ({', '.join(unknown)}); "
            f"it was written by zoo {settings.get('zoo_version')}, so upgrade"
        )
    try:
        config = spec.config(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"the settings of {source.path} are damaged: {error}") from error
    return Found(family=family, format="zoo", config=config, source=source)


def build_found(found: Found, config: Any, dtype: torch.dtype | None = None) -> nn.Module:
    """Build a model around identified weights, without initialising it first.

    Args:
        found: The weights.
        config: The config to build, of the same sizes.
        dtype: As for :func:`load`.

    Raises:
        UserError: Names missing, unexpected and mis-shaped keys, all at once.
    """
    spec = get_family(found.family)
    if found.part is not None:
        return _build_part(found, spec, config, dtype)
    try:
        with torch.device("meta"):
            model = build_model(spec.name, config)
    except (NotImplementedError, RuntimeError):  # a part that somebody else wrote and that computes while it is built
        model = build_model(spec.name, config)
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    table = identity(expected) if found.format == "zoo" else resolve(spec.converters[found.format]).table(config)
    state = _read(found.source, table, expected, what=f"{found.source.path} does not fit {spec.name}")
    if any(b.is_meta for name, b in model.named_buffers() if name not in expected):
        model = build_model(spec.name, config)  # it computes buffers that are not stored
    model.load_state_dict({key: _cast(tensor, dtype) for key, tensor in state.items()}, strict=True, assign=True)
    return model


def _build_part(found: Found, spec: FamilySpec, config: Any, dtype: torch.dtype | None) -> nn.Module:
    """A model with one part from a file, and the others as they are initialised."""
    model, part = build_model(spec.name, config), found.part or ""
    table = resolve(spec.converters[found.format]).table(config)
    rules = {key: table.rule_of(key) for key in model.state_dict()}
    expected = {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if (rule := rules[key]) is not None and rule[0].foreign[0].text.startswith(part)
    }
    state = _read(found.source.under(part), table, expected, what=f"{found.source.path} does not fit {spec.name}")
    missing, _ = model.load_state_dict({key: _cast(value, dtype) for key, value in state.items()}, strict=False)
    rest = ", ".join(sorted({key.split(".")[0] for key in missing}))
    _warn(f"{found.source.path} holds a part of the model only; the {rest} is untrained")
    return model if dtype is None else model.to(dtype)


def _read(source: Source, table: RuleTable, expected: Mapping[str, tuple[int, ...]], *, what: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError

    try:
        return table.to_zoo(source.tensors, expected, what=what, shapes=source.shapes)
    except SafetensorError as error:
        raise UserError(f"{source.path} is damaged ({error}); copy or download it again") from error


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if dtype is None and tensor.dtype.itemsize == 2:
        dtype = torch.float32
    return tensor.to(dtype) if dtype is not None else tensor


def _write_own(spec: FamilySpec, model: nn.Module, preprocessor: Any | None, folder: Path) -> None:
    config: Any = model.config
    settings = {
        "format": "zoo",
        "zoo_version": zoo.__version__,
        "family": spec.name,
        "model": name_of(spec, config),
        "config": dataclasses.asdict(config),
    }
    state = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
    save_tensors(folder / WEIGHTS_FILE, state, {"zoo": settings})
    write_json(folder / "config.json", settings)
    if preprocessor is not None:
        preprocessor.save(folder)


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the body succeeds.

    Raises:
        UserError: ``path`` is a file, or a folder with something else than weights in it, or cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, not a folder; choose another output")
    strangers = sorted(p.name for p in path.iterdir() if p.name not in _OURS) if path.is_dir() else []
    if strangers:
        raise UserError(f"{path} holds other files ({', '.join(strangers[:3])}); choose an empty or new folder")
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another output") from error
    try:
        yield temporary
        _open_to_others(temporary)
        sync(temporary)
        if path.is_dir() and any(path.iterdir()):
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another output") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _open_to_others(folder: Path) -> None:
    """Give a private temporary folder the permissions that a plain new folder has."""
    probe = folder / ".probe"
    probe.mkdir()
    folder.chmod(probe.stat().st_mode & 0o7777)
    probe.rmdir()
