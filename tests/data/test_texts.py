import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foster.data.texts import check_template, render, template_fields, tidy
from foster.errors import InputError

ITEMS = pl.DataFrame({"title": ["Pan", "Pot", None, None], "brand": ["Acme", None, "Best", None]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  a \n\t b ", "a b"),
        (" ", None),
        (None, None),
        (["a", None, " ", "b  c"], "a, b c"),
        ([], None),
        ('["a", "b\\"c", "é"]', 'a, b"c, é'),
        ('[["a", "b"], ["c"]]', "a, b, c"),
        ("[New] Game", "[New] Game"),
    ],
)
def test_tidy(value, expected):
    dtype = pl.List(pl.String) if isinstance(value, list) else pl.String
    assert tidy(pl.Series("x", [value], dtype=dtype)).to_list() == [expected]


def test_tidy_takes_nested_lists_and_numbers():
    assert tidy(pl.Series([[["a"], ["b", "c"]]])).to_list() == ["a, b, c"]
    assert tidy(pl.Series([1984, None])).to_list() == ["1984", None]
    assert tidy(pl.Series(["x"], dtype=pl.Categorical)).to_list() == ["x"]


def test_the_default_joins_what_is_there():
    assert render(ITEMS, ["title", "brand"], None) == ["Pan, Acme", "Pot", "Best", ""]


def test_a_template_is_filled():
    assert render(ITEMS, ["title", "brand"], "{title} by {brand}.") == ["Pan by Acme.", "Pot by .", "by Best.", ""]


def test_doubled_braces_are_braces():
    assert render(ITEMS, ["title"], "{{x}} {title}")[:3] == ["{x} Pan", "{x} Pot", ""]


@given(st.lists(st.one_of(st.none(), st.text()), min_size=1, max_size=5))
def test_render_equals_python(values):
    items = pl.DataFrame({"a": tidy(pl.Series(values, dtype=pl.String)), "b": ["x"] * len(values)})
    expected = [f"{a}, x" if a else "x" for a in items["a"].to_list()]
    assert render(items, ["a", "b"], None) == expected


def test_fields_of_a_template_come_once_and_in_order():
    assert template_fields("{b} {a} {b}") == ["b", "a"]


@pytest.mark.parametrize("template", ["{}", "{0}", "{a.}", "{.a}", "{a[0]}", "{a!r}", "{a:>9}", "no field", "{a", "a}"])
def test_a_template_with_more_than_names_is_refused(template):
    with pytest.raises(InputError, match="--template"):
        template_fields(template)


def test_an_unknown_field_is_named_with_the_nearest():
    with pytest.raises(
        InputError, match=r"unknown field 'titel' \(did you mean 'title'\?\); known fields are title, brand"
    ):
        check_template("{titel}", ["title", "brand"])
