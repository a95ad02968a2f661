"""The academic data set of Yelp: reviews and businesses."""

from __future__ import annotations

from foster.data.layouts.layout import Files, Layout
from foster.data.layouts.lines import object_table

_NAME = "Yelp Open Dataset"
_SOURCE = "https://business.yelp.com/data/resources/open-dataset/"
_KEYS = ("business_id", "name", "city", "categories")


def find_yelp(files: Files) -> Layout | None:
    """Return the reviews and the businesses of Yelp, or None."""
    log = files.one(
        files.objects(r".*review.*\.json(\.gz)?", ("review_id", "user_id", "business_id", "date"), without=("name",))
    )
    items = files.one(
        files.objects(r".*business.*\.json(\.gz)?", ("business_id", "name", "categories"), without=("user_id",))
    )
    both = files.both(
        _NAME, log, items, ("yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"), _SOURCE
    )
    if both is None:
        return None
    log, items = both
    return Layout(
        name=_NAME,
        log=object_table(files, log, ()),
        items=object_table(files, items, _KEYS),
        user="user_id",
        item="business_id",
        item_key="business_id",
        time="date",
        time_format=None,
        text=("name", "categories"),
        notes=("Every review counts, whatever its stars.", "Tips and check-ins are left out."),
        files=(log, items),
    )
