"""Steam, as UCSD published it: reviews and games in the notation of Python 2."""

from __future__ import annotations

from foster.data.layouts.layout import Files, Layout, open_frame
from foster.data.layouts.lines import object_table
from foster.errors import InputError

_NAME = "Steam (UCSD)"
_SOURCE = "https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data"
_LOG_KEYS = ("username", "product_id", "date")
_KEYS = ("id", "app_name", "title", "developer", "publisher", "genres", "tags")
_FILES = r".+\.json(\.gz)?"


def find_steam(files: Files) -> Layout | None:
    """Return the reviews and the games of Steam, or None.

    Raises:
        InputError: a part is missing, or the log is one of those without times.
    """
    log = files.one(files.objects(_FILES, _LOG_KEYS))
    items = files.one(files.objects(_FILES, ("app_name", "url"), without=("username",)))
    if log is None:
        for keys, fault in (
            (("user_id", "items_count", "items"), "holds no times, so no order of the games of a user is known"),
            (("user_id", "user_url", "reviews"), "holds a list of reviews a line, many with a date without a year"),
        ):
            if found := files.objects(_FILES, keys):
                raise InputError(f"{found[0]}: {fault}; take steam_reviews.json.gz from {_SOURCE} instead")
    both = files.both(_NAME, log, items, ("steam_reviews.json.gz", "steam_games.json.gz"), _SOURCE)
    if both is None:
        return None
    log, items = both
    games = object_table(files, items, _KEYS)
    return Layout(
        name=_NAME,
        log=object_table(files, log, _LOG_KEYS),
        # Two of the games have no id.
        items=open_frame(items, games.frame.drop_nulls("id")),
        user="username",
        item="product_id",
        item_key="id",
        time="date",
        time_format=None,
        text=("app_name", "developer", "genres"),
        notes=(
            "Every review counts, recommended or not.",
            "Users are known by their names (username), since few reviews have a user_id.",
            "Times are days: reviews of one user on the same day keep the order of the file.",
            "Games without an id are left out.",
        ),
        files=(log, items),
    )
