import os
from pathlib import Path

import pytest

from foster.data.dataset import Dataset

SHARED = Path(os.environ.get("FOSTER_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no research data at {SHARED}; set FOSTER_SHARED_DATA"),
]


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [
        ("games", 50_597, 16_874, 453_637),
        ("yelp", 30_431, 20_033, 316_354),
        ("foodcom", 17_813, 41_240, 555_618),
        ("beauty", 22_332, 12_086, 198_215),
    ],
)
def test_a_5_core_is_its_own_5_core(name, users, items, interactions):
    data = Dataset.prepare(SHARED / name)
    assert (data.n_users, data.n_items, data.n_interactions) == (users, items, interactions)
    assert (data.info.users, data.info.items, data.info.interactions) == (users, items, interactions)
    assert set(data.info.dropped.model_dump().values()) == {0}
    assert all(data.texts)
