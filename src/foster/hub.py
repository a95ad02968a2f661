"""Folders of foster on the Hugging Face hub: sent there by name, and fetched from there."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from foster.artefacts import STUDY, artefact_kind
from foster.errors import InputError
from foster.manifest import MANIFEST_NAME, verify
from foster.storage import cache_root, remove_left

NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
MODELS = ("model", "teacher", "onnx")


def push_to_hub(folder: str | Path, name: str, *, private: bool = True) -> str:
    """Send a folder to the Hugging Face hub: a model to a repository of models, anything else to one of data sets.

    Who you are is what ``hf auth login`` or ``HF_TOKEN`` says. Files of the folder alone are sent, in one commit.

    Args:
        folder: a folder that foster wrote.
        name: of the repository, as in ``organisation/name``; it is made if it does not exist.
        private: whether a new repository can be seen by its owners only. One that exists stays as it is.

    Returns:
        The address of the commit.

    Raises:
        InputError: another folder, a damaged one, no name, or the hub does not take it.
    """
    from huggingface_hub import HfApi

    if not NAME.fullmatch(name):
        raise InputError(f"{name}: is no name of a repository; give one as in organisation/name")
    kind = artefact_kind(folder)
    # Models in the folder of a study have manifests of their own, and are sent by themselves.
    files = [*verify(folder, depth=1 if kind == STUDY else None).files, MANIFEST_NAME]
    repo_type = "model" if kind in MODELS else "dataset"
    api = HfApi()
    try:
        api.create_repo(name, repo_type=repo_type, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            repo_type=repo_type,
            folder_path=str(folder),
            allow_patterns=[_literal(file) for file in files],
            commit_message=f"{kind} of foster",
        )
    except Exception as error:  # the client lets errors of its HTTP library through, and that differs between versions
        raise InputError(
            f"{name}: the Hugging Face hub does not take it ({_line(error)}); see 'hf auth whoami' and the network"
        ) from error
    return str(commit.commit_url)


def folder_of(name: str | Path, repo_type: str) -> Path:
    """Return a folder as it is, and for a name on the Hugging Face hub the folder of its files on this machine.

    A name counts as one of the hub's if it has the form ``organisation/name`` and there is no such folder here. The
    newest version is fetched, or that which was fetched last where there is no network.

    Args:
        name: folder or name.
        repo_type: "model" or "dataset".

    Raises:
        InputError: no such folder, and no repository of that name that could be fetched.
    """
    path = Path(name)
    if os.path.lexists(path) or not NAME.fullmatch(str(name)):
        return path
    from huggingface_hub import snapshot_download

    # Whether there is a network is asked at most for seconds, not for a row of retries.
    try:
        snapshot = Path(snapshot_download(str(name), repo_type=repo_type, etag_timeout=3))
    except Exception as error:
        try:
            snapshot = Path(snapshot_download(str(name), repo_type=repo_type, local_files_only=True))
        except Exception:  # the first error says why: no network, or no such repository
            raise InputError(
                f"{name}: no such folder, and no {repo_type} of that name could be fetched from the Hugging Face hub "
                f"({_line(error)})"
            ) from error
    return _copied(snapshot, str(name), repo_type)


def _copied(snapshot: Path, name: str, repo_type: str) -> Path:
    """Return a copy of the files of a version: the hub's own cache holds links, which folders of foster never do."""
    out = cache_root() / "hub" / repo_type / name.replace("/", "--") / snapshot.name
    if out.is_dir():
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_left(out.parent, ".*.tmp", shutil.rmtree)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".", suffix=".tmp") as place:
            whole = Path(place) / "whole"
            # What the hub adds, such as .gitattributes, is none of the folder's.
            shutil.copytree(snapshot, whole, ignore=shutil.ignore_patterns(".*"))
            if not out.is_dir():
                whole.rename(out)
    except OSError as error:
        if not out.is_dir():
            raise InputError(f"{name}: cannot be kept in {out} ({error.strerror}); set FOSTER_CACHE") from error
    return out


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _line(error: Exception) -> str:
    lines = [line.strip(" .") for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)
