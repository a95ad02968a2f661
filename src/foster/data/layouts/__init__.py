"""Public data sets by the true form of their files: one file a publisher, one entry point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from foster.data.layouts.amazon import find_amazon
from foster.data.layouts.goodreads import find_goodreads
from foster.data.layouts.kuai import find_kuairand, find_kuairec
from foster.data.layouts.layout import Files, Layout
from foster.data.layouts.mind import find_mind
from foster.data.layouts.movielens import find_movielens_100k, find_movielens_csv, find_movielens_dat
from foster.data.layouts.recbole import find_recbole
from foster.data.layouts.shops import find_hm, find_rees46
from foster.data.layouts.steam import find_steam
from foster.data.layouts.yelp import find_yelp
from foster.errors import InputError

_FINDERS: tuple[Callable[[Files], Layout | None], ...] = (
    find_amazon,
    find_goodreads,
    find_hm,
    find_kuairand,
    find_kuairec,
    find_mind,
    find_movielens_100k,
    find_movielens_csv,
    find_movielens_dat,
    find_recbole,
    find_rees46,
    find_steam,
    find_yelp,
)
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar")


def find_layout(paths: Sequence[Path]) -> Layout | None:
    """Return the public data set that files are of, known by their names and by what their first lines hold.

    Args:
        paths: one folder, or the log and its item table (or the files of these) in any order.

    Returns:
        What is read of which file, or None where the files are of no known data set.

    Raises:
        InputError: a part of a known data set is missing, several data sets fit, a file of it is damaged or of a form
            that no log can be made of, or a path is an archive.
    """
    for path in paths:
        if path.is_file() and path.name.lower().endswith(_ARCHIVES):
            raise InputError(f"{path}: is an archive; unpack it and give the folder or the files in it")
    if not paths or not all(path.exists() for path in paths):
        return None
    if len(paths) > 1 and any(path.is_dir() for path in paths):
        return None
    files = Files(paths)
    found = [layout for find in _FINDERS if (layout := find(files)) is not None]
    if len(found) > 1:
        raise InputError(
            f"{files.name}: holds both {found[0].name} ({found[0].files[0].name}) and {found[1].name} "
            f"({found[1].files[0].name}); name the log and the item file that you want"
        )
    if not found or (files.folder is None and set(found[0].files) != set(paths)):
        return None
    return found[0]
