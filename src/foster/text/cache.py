"""Embeddings that are computed once: a cache on disk, addressed by the content of encoder and text.

A folder per encoder holds shards, ``<name>.safetensors`` with ``keys`` (uint8 [n, 16], hashes of the texts)
and ``vectors`` (float32 [n, width]). The name is the hash of the keys, so that two runs that write at once
write the same file or different ones. Nothing is changed in place, and a killed run loses at most one shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foster.json_text import to_json
from foster.progress import Progress
from foster.storage import cache_root, large_table, whole_file
from foster.text.encoder import TextEncoder, pooling_of
from foster.text.hub import folder_fingerprint, locate
from foster.text.options import EncoderOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_log = logging.getLogger(__name__)

SHARD_TEXTS = 1_024
UNSORTED = 2**16  # texts that the index of a folder holds beside the sorted ones
_KEY_BYTES = 16


def embed_texts(
    texts: Sequence[str],
    options: EncoderOptions | None = None,
    device: str | torch.device = "cpu",
    cache: bool = True,
    progress: bool = True,
    encoder: TextEncoder | None = None,
) -> Tensor:
    """Encode texts, each distinct one once, and remember the vectors on disk.

    Where every text is known already, the encoder's weights are not even loaded.

    Args:
        texts: n texts.
        options: the encoder, its pooling and length.
        device: where a loaded encoder runs.
        cache: look up and store vectors under ``cache_root()``.
        progress: a bar with the time left on stderr, or a line a minute where that is no terminal.
        encoder: a loaded encoder, used instead of ``options`` and ``device``. Its weights must be those that
            it was loaded with, since the cache knows them by the hash of their files.

    Returns:
        Vectors, float32 [n, width], on the CPU; those of many texts lie in a file, see ``large_table``.

    Raises:
        InputError: the encoder cannot be loaded, or gives a text a vector that is not finite.
    """
    import torch

    options = options or EncoderOptions()
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    store = _Store(_folder_of(options, encoder)) if cache else None
    # The distinct texts come first in it, and each goes to where it belongs in the end: there is no second table.
    vectors, missing = store.read(rows, len(texts)) if store else (None, list(rows))
    if missing or vectors is None:
        encoder = encoder or TextEncoder.load(options, device)
        vectors = large_table(len(texts), encoder.width) if vectors is None else vectors
        with Progress(what="encoding texts", total=len(missing), shown=progress, unit="text") as bar:
            for start in range(0, len(missing), SHARD_TEXTS):
                part = missing[start : start + SHARD_TEXTS]
                new = encoder.encode(part, progress=bar.update)
                vectors[[rows[text] for text in part]] = new
                if store:
                    store.write(part, new)
    if len(rows) < len(texts):
        _spread(vectors, torch.tensor([rows[text] for text in texts], dtype=torch.int64))
    return vectors


def _spread(vectors: Tensor, rows: Tensor) -> None:
    """Set vectors ``[n, width]`` to those of ``rows`` ``[n]`` of them, in place.

    Rows are numbered as they first appear, none is larger than its place: from the end on, none is overwritten before
    it was read.
    """
    for end in range(len(rows), 0, -SHARD_TEXTS):
        part = slice(max(end - SHARD_TEXTS, 0), end)
        vectors[part] = vectors[rows[part]]


def unknown_texts(texts: Sequence[str], options: EncoderOptions | None = None) -> list[str]:
    """Return the distinct texts that ``embed_texts`` would have to encode, in their order.

    Raises:
        InputError: the encoder is not to be found.
    """
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    return _Store(_folder_of(options or EncoderOptions(), None)).read(rows, len(rows))[1]


def text_key(text: str) -> bytes:
    """Return the 16 bytes that stand for a text in the caches."""
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest()


def content_name(*parts: object) -> str:
    """Return 16 hex digits that name a cache folder for the given parts (strings and numbers)."""
    return hashlib.sha256(to_json(parts, ascii_only=True).encode()).hexdigest()[:16]


def _folder_of(options: EncoderOptions, encoder: TextEncoder | None) -> Path:
    if encoder is not None:
        name = content_name(encoder.fingerprint, encoder.pooling, encoder.max_tokens)
    else:
        folder = locate(options.encoder)
        name = content_name(folder_fingerprint(folder), pooling_of(options, folder), options.max_tokens)
    return cache_root() / "embeddings" / name


class _Index:
    """Which shards of a folder hold which texts: 12 bytes a text, read once in a process and not at every look-up.

    A shard never changes and is named by its keys, so that only new ones have to be opened. Of a key its first half
    counts: a shard that holds another text with that half is opened in vain.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._paths: list[Path] = []
        self._hashes, self._owners = np.empty(0, np.uint64), np.empty(0, np.int32)  # sorted by hash
        self._new: dict[int, int] = {}  # not sorted in yet

    def shards(self, folder: Path, keys: Collection[bytes]) -> list[Path]:
        """Return the shards that may hold some of the keys, and those that cannot be read."""
        with self._lock:
            return self._shards(folder, keys)

    def _shards(self, folder: Path, keys: Collection[bytes]) -> list[Path]:
        # Not by Path.glob: from Python 3.13 on it is silent about what may not be read, and all would be encoded again.
        try:
            there = {path for path in folder.iterdir() if path.suffix == ".safetensors"}
        except (FileNotFoundError, NotADirectoryError):
            there = set()
        if not there.issuperset(self._paths):
            self._forget()  # some were removed
        damaged = [path for path in sorted(there.difference(self._paths)) if not self._take_in(path)]
        hashes = _hashes(b"".join(keys))
        at = np.searchsorted(self._hashes, hashes).clip(max=max(len(self._hashes) - 1, 0))
        found = set(self._owners[at[self._hashes[at] == hashes]].tolist()) if len(self._hashes) else set()
        found |= {self._new[key] for key in hashes.tolist() if key in self._new}
        return sorted({*(self._paths[number] for number in found), *damaged})

    def _take_in(self, path: Path) -> bool:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                hashes = _hashes(file.get_tensor("keys").tobytes())
        except (SafetensorError, OSError, RuntimeError, ValueError):
            return False  # whoever reads its vectors says so
        self._new.update(dict.fromkeys(hashes.tolist(), len(self._paths)))
        self._paths.append(path)
        if len(self._new) > UNSORTED + len(self._hashes) // 2:
            self._sort()
        return True

    def _sort(self) -> None:
        hashes = np.concatenate([np.fromiter(self._new, np.uint64), self._hashes])
        owners = np.concatenate([np.fromiter(self._new.values(), np.int32), self._owners])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners, self._new = hashes[order], owners[order], {}


def _hashes(keys: bytes) -> np.ndarray:
    """Return the first half of each key as a number: uint64."""
    out: np.ndarray = np.frombuffer(keys, np.uint64)[:: _KEY_BYTES // 8]
    return out


_INDICES: dict[Path, _Index] = {}


class _Store:
    """The shards of one encoder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, rows: dict[str, int], n: int) -> tuple[Tensor | None, list[str]]:
        """Look texts up.

        Args:
            rows: text to row of the result.
            n: rows of the result.

        Returns:
            Vectors, float32 [n, width], undefined at missing texts and behind the last one, or None where no text is
            known; and the missing texts in their order.
        """
        wanted = {text_key(text): text for text in rows}
        vectors = None
        for path in _INDICES.setdefault(self.folder, _Index()).shards(self.folder, wanted):
            shard = _read_shard(path, wanted)
            if shard is None:
                continue
            places, keys, found = shard
            if vectors is None:
                vectors = large_table(n, found.shape[1])
            vectors[[rows[wanted.pop(key)] for key in keys]] = found[places]
        missing = set(wanted.values())
        return vectors, [text for text in rows if text in missing]

    def write(self, texts: Sequence[str], vectors: Tensor) -> None:
        """Add one shard; a cache that cannot be written to costs time, so it is a warning and no error."""
        import torch
        from safetensors.torch import save

        keys = b"".join(map(text_key, texts))
        tensors = {
            "keys": torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(-1, _KEY_BYTES),
            "vectors": vectors.contiguous(),
        }
        name = hashlib.blake2b(keys, digest_size=8).hexdigest()
        try:
            with whole_file(self.folder / f"{name}.safetensors") as path:
                path.write_bytes(save(tensors, metadata={"checksum": _checksum(**tensors)}))
        except OSError as error:
            _log.warning("%s: cannot write there (%s); embeddings are not cached", self.folder, error.strerror)


def _read_shard(path: Path, wanted: dict[bytes, str]) -> tuple[list[int], list[bytes], Tensor] | None:
    """Return the places of the wanted keys in a shard, the keys and all vectors; None if there are none.

    A damaged shard is removed, so that its texts are encoded again.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            keys = file.get_tensor("keys")
            names = [bytes(row) for row in keys.numpy()]
            places = [place for place, name in enumerate(names) if name in wanted]
            if not places:
                return None
            vectors = file.get_tensor("vectors")
            if (file.metadata() or {}).get("checksum") != _checksum(keys, vectors):
                raise SafetensorError("checksum does not fit")
            if not vectors.isfinite().all():  # of an earlier version, which did not look
                raise SafetensorError("vectors are not finite")
    except FileNotFoundError:
        return None  # another run found it damaged and removed it
    except (SafetensorError, OSError, RuntimeError) as error:
        _log.warning("%s: damaged (%s); its texts are encoded again", path, error)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return places, [names[place] for place in places], vectors


def _checksum(keys: Tensor, vectors: Tensor) -> str:
    digest = hashlib.blake2b(keys.numpy().tobytes(), digest_size=16)
    digest.update(vectors.numpy().tobytes())
    return digest.hexdigest()
