"""Finding images by text and texts by image: recall, an index of a folder, a picture of the best hits.

Shapes: N images, M texts, E embedding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.clip.zero_shot import embed_images, embed_texts
from zoo.shared.errors import UserError
from zoo.shared.files import save_atomically

_SCORES_AT_ONCE = 1 << 24  # 64 MB of float32


def retrieval_recall(
    image_embeddings: Tensor,
    text_embeddings: Tensor,
    *,
    image_of_text: Tensor | None = None,
    ks: Sequence[int] = (1, 5, 10),
    chunk: int | None = None,
) -> dict[str, float]:
    """Share of queries that have a right answer among the best k, in both directions.

    Wrong answers that score exactly as much as the right one count as better, so that embeddings that have
    collapsed to a point recall nothing.

    Args:
        image_embeddings: ``(N, E)``; need not be normalised.
        text_embeddings: ``(M, E)``.
        image_of_text: Index of the image that each text describes ``(M,)``; an image may have any number of
            texts, and one without any is no query. None: text i describes image i.
        ks: Each gives the entries ``image_to_text_r{k}`` and ``text_to_image_r{k}``.
        chunk: Queries scored at once; as many as fit into 64 MB when None.

    Returns:
        Recalls from 0 to 1.

    Raises:
        UserError: The sizes do not fit together.
    """
    images, texts = (
        F.normalize(image_embeddings.float(), dim=-1),
        F.normalize(text_embeddings.float(), dim=-1),
    )
    if image_of_text is None:
        if len(images) != len(texts):
            raise UserError(f"{len(images)} images and {len(texts)} texts: say which belong together")
        image_of_text = torch.arange(len(texts))
    owner = torch.as_tensor(image_of_text, device=texts.device)
    if owner.shape != (len(texts),) or not len(texts):
        raise UserError(f"image_of_text needs one number for each of the {len(texts)} texts (at least one)")
    if int(owner.min()) < 0 or int(owner.max()) >= len(images):
        raise UserError(f"image_of_text points outside of the {len(images)} images")
    rows = chunk or max(1, _SCORES_AT_ONCE // max(len(images), len(texts)))

    by_image = []
    for first in range(0, len(images), rows):
        scores = images[first : first + rows] @ texts.T
        index = torch.arange(first, first + len(scores), device=owner.device)
        right = owner[None, :] == index[:, None]
        best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        rank = ((scores >= best) & ~right).sum(dim=1)
        by_image.append(rank[right.any(dim=1)])
    by_text = []
    for first in range(0, len(texts), rows):
        scores = texts[first : first + rows] @ images.T
        right = scores.gather(1, owner[first : first + rows, None])
        by_text.append((scores >= right).sum(dim=1) - 1)

    recalls = {}
    for direction, ranks in (("image_to_text", torch.cat(by_image)), ("text_to_image", torch.cat(by_text))):
        for k in ks:
            recalls[f"{direction}_r{k}"] = int((ranks < k).sum()) / len(ranks)
    return recalls


def weights_key(model: nn.Module, preprocessor: Any) -> str:
    """Hash of all that decides an image's embedding."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((preprocessor.image_size, preprocessor.mean, preprocessor.std)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class FolderIndex:
    """The embedded images of a folder.

    Attributes:
        paths: N image files, sorted.
        embeddings: Unit vectors ``(N, E)``.
        skipped: Files that are no usable image, with the reason.
        embedded: How many were embedded now; the others came from the cache.
    """

    paths: list[Path]
    embeddings: Tensor
    skipped: dict[Path, str] = field(default_factory=dict)
    embedded: int = 0


def image_files(folder: str | Path) -> list[Path]:
    """All image files below a folder, sorted, by their suffix; hidden ones are left out.

    Raises:
        UserError: No such folder, or no image in it.
    """
    from zoo.shared.data.images import IMAGE_SUFFIXES

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder" if folder.exists() else f"no such folder: {folder}")
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise UserError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return found


_State = tuple[int, int]  # size and time of change
_Known = dict[str, tuple[_State, Tensor | str]]  # embedding, or why there is none


def embed_folder(
    model: nn.Module,
    preprocessor: Any,
    folder: str | Path,
    *,
    cache: str | Path | None = None,
    batch_size: int = 64,
    workers: int = 4,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> FolderIndex:
    """Embed the images of a folder, each only once.

    Embeddings are remembered by the hash of the weights and by each file's path, size and time of change, so
    that only new and changed files cost time. What is done is kept when the work is interrupted.

    Args:
        model: A CLIP model.
        preprocessor: The preprocessing that belongs to it.
        folder: Searched with all folders below.
        cache: Folder of the remembered embeddings; zoo's own cache when None.
        batch_size: Images of a batch.
        workers: Threads that read images.
        progress: Called with images done and images to do.

    Raises:
        UserError: No such folder, or no usable image in it.
    """
    from zoo.shared.data.samples import cache_folder

    folder = Path(folder)
    files = image_files(folder)
    place = hashlib.blake2b(str(folder.resolve()).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    store = Path(cache or cache_folder() / "search") / f"{place}-{weights_key(model, preprocessor)}.safetensors"
    names = {path: path.relative_to(folder).as_posix() for path in files}
    states = {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
    known = _read_store(store)
    fresh = [path for path in files if names[path] not in known or known[names[path]][0] != states[path]]
    for path in fresh:
        known.pop(names[path], None)
    kept = {name: known[name] for name in names.values() if name in known}

    def read(path: Path) -> Tensor | str:
        try:
            return preprocessor.image(path)
        except UserError as error:
            return str(error)

    try:
        with ThreadPoolExecutor(workers) as pool:
            for first in range(0, len(fresh), batch_size):
                chunk = fresh[first : first + batch_size]
                tensors = list(pool.map(read, chunk))
                good = [tensor for tensor in tensors if isinstance(tensor, Tensor)]
                vectors = iter(embed_images(model, preprocessor, torch.stack(good)) if good else ())
                for path, tensor in zip(chunk, tensors, strict=True):
                    result = tensor if isinstance(tensor, str) else next(vectors)
                    kept[names[path]] = (states[path], result)
                progress(first + len(chunk), len(fresh))
    finally:
        if fresh or len(kept) != len(known):
            _write_store(store, kept)

    results = {path: kept[names[path]][1] for path in files}
    good_paths = [path for path in files if isinstance(results[path], Tensor)]
    skipped = {path: reason for path, reason in results.items() if isinstance(reason, str)}
    if not good_paths:
        raise UserError(f"{folder}: none of the {len(files)} image files can be used; {next(iter(skipped.values()))}")
    rows = [vector for vector in results.values() if isinstance(vector, Tensor)]
    return FolderIndex(
        paths=good_paths,
        embeddings=torch.stack(rows),
        skipped=skipped,
        embedded=sum(p in results for p in fresh),
    )


def _write_store(path: Path, known: _Known) -> None:
    from safetensors.torch import save_file

    rows = [value for _, value in known.values() if isinstance(value, Tensor)]
    index = [[name, *state, value if isinstance(value, str) else None] for name, (state, value) in known.items()]
    tensors = {
        "embeddings": torch.stack(rows) if rows else torch.empty(0, 0),
        # A tensor, because a safetensors header ends at 100 MB.
        "index": torch.frombuffer(bytearray(json.dumps(index).encode()), dtype=torch.uint8),
    }
    save_atomically(path, lambda temporary: save_file(tensors, str(temporary)))


def _read_store(path: Path) -> _Known:
    """What is remembered; nothing if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        index = json.loads(tensors["index"].numpy().tobytes())
        vectors = iter(tensors["embeddings"])
        return {
            name: ((size, changed), next(vectors) if reason is None else reason)
            for name, size, changed, reason in index
        }
    except (OSError, SafetensorError, KeyError, ValueError, StopIteration, RuntimeError):
        return {}


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An image that was found.

    Attributes:
        path: The file.
        score: Cosine similarity with the query, from -1 to 1.
    """

    path: Path
    score: float


def search(model: nn.Module, preprocessor: Any, index: FolderIndex, query: str, *, top: int = 10) -> list[Hit]:
    """Find the images that fit a sentence best.

    Args:
        model: The model that made the index.
        preprocessor: The preprocessing that belongs to it.
        index: From :func:`embed_folder`.
        query: What to look for.
        top: How many to return, best first.

    Raises:
        UserError: The query is empty, or ``top`` less than 1.
    """
    if not query.strip():
        raise UserError("the query is empty; say what to look for, like 'a red bicycle'")
    if top < 1:
        raise UserError(f"top={top}: ask for at least one image")
    scores = index.embeddings @ embed_texts(model, preprocessor, query)[0]
    values, places = scores.topk(min(top, len(scores)))
    return [Hit(path=index.paths[i], score=v) for v, i in zip(values.tolist(), places.tolist(), strict=True)]
