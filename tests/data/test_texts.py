import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foster.data.texts import check_template, render, split_field, template_fields, tidy, within
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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("['a', \"b's\"]", "a, b's"),
        ("['a' 'b'\n 'c']", "a, b, c"),
        ("[['a'], ['b']]", "a, b"),
        ("{Brand new} lamp", "{Brand new} lamp"),
        ("[1] lamp", "[1] lamp"),
        ("[2012]", "[2012]"),
        ("(2012)", "(2012)"),
        ("['a' None 'b']", "a, b"),
        ("[1 2 3]", "1, 2, 3"),
        ("[u'a', b'b']", "a, b"),
        ("('a', 'b')", "a, b"),
        ("[nan, 'a']", "a"),
        ("{}", None),
        ('{"name": null}', None),
    ],
)
def test_lists_as_python_and_numpy_print_them(value, expected):
    assert tidy(pl.Series("x", [value])).to_list() == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series([1984.0, 2.5, float("nan"), None]), ["1984", "2.5", None, None]),
        (pl.Series(["1984.0", "1985.0", None]), ["1984", "1985", None]),
        (pl.Series(["1984.0", "lamp"]), ["1984.0", "lamp"]),
        (pl.Series([["a"], None, [None, "b"]]), ["a", None, "b"]),
        (pl.Series([[1.0, 2.5]]), ["1, 2.5"]),
        (pl.Series([b"ab", None]), ["ab", None]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_columns_of_all_types_become_words(values, expected):
    assert tidy(values.alias("x")).to_list() == expected


@pytest.mark.parametrize(
    "values",
    [
        pl.Series("genres", [[{"id": 1, "name": "a"}]]),
        pl.Series("genres", [{"id": 1, "name": "a"}]),
        pl.Series("genres", ['{"id": 1, "name": "a"}']),
        pl.Series("genres", ["[{'id': 1, 'name': 'a'}]"]),
        pl.Series("genres", [[{"key": "id", "value": "1"}, {"key": "name", "value": "a"}]]),
    ],
)
def test_objects_are_refused_with_their_fields_and_reached_by_a_path(values):
    with pytest.raises(
        InputError, match=r"items: column 'genres' holds objects with the fields id, name; name one, as in"
    ):
        tidy(values, "items")
    assert within(values, ["name"], "genres.name", "items").to_list() == ["a"]


def test_a_path_through_lists_and_where_it_ends():
    values = pl.Series("x", [[{"a": {"b": "1"}}, {"a": None}, {"a": {"b": "2"}}], None])
    assert within(values, ["a", "b"], "x.a.b", "items").to_list() == ["1, 2", None]
    assert split_field("x.a.b", ["x", "y"]) == ("x", ["a", "b"])
    assert split_field("x.a", ["x", "x.a"]) == ("x.a", [])
    with pytest.raises(InputError, match="holds objects with the fields b"):
        within(values, ["a"], "x.a", "items")


def test_lengths_of_time_are_no_text():
    with pytest.raises(InputError, match="column 'x' holds lengths of time"):
        tidy(pl.Series("x", [1], dtype=pl.Duration))


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
