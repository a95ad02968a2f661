"""Sequences for programs that are not foster, and folders on a hub that is not there."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from foster import cli
from foster.artefacts import marked, new_folder
from foster.condensed.labels import compact_item_map, with_item_map, with_soft_labels
from foster.condensed.sequences import Condensed
from foster.data.catalogue import Catalogue
from foster.errors import InputError
from foster.hub import push_to_hub
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.serving.handed_on import write_hf, write_jsonl
from foster.text.options import EncoderOptions
from small_models import small_recommender

CATALOGUE = Catalogue(["a", "b", "c"], ["red\ndog", "blue cat", 'green "tea"'])


def sequences() -> Condensed:
    items = torch.tensor([[[0, 1], [1, 2], [2, 0]], [[1, 0], [0, 2], [0, 0]]])
    weights = torch.tensor([[[0.75, 0.25], [0.25, 0.75], [1.0, 0.0]], [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]])
    info = {"data_fingerprint": "f" * 64, "from_real_data": "nothing"}
    return Condensed(
        "distilled", "foster", items, weights, None, None, CATALOGUE, EncoderOptions(), ModelOptions(), info=info
    )


def test_hard_sequences_and_prompts_as_json_lines(tmp_path):
    with new_folder(tmp_path / "out") as folder:
        assert write_jsonl(sequences(), folder) == {"sequences": 2, "prompts": 3}
    lines = {name: _lines(tmp_path / "out" / f"{name}.jsonl") for name in ("sequences", "prompts")}
    first, second = lines["sequences"]
    assert first["item_ids"] == ["a", "c", "c"] and first["probabilities"] == [0.75, 0.75, 1.0]
    assert second == {
        "sequence": 1,
        "item_ids": ["b", "a"],
        "texts": ["blue cat", "red\ndog"],
        "probabilities": [1.0, 0.5],
    }
    assert lines["prompts"][1] == {
        "sequence": 0,
        "step": 2,
        "prompt": 'A user took these items, oldest first:\n1. red dog\n2. green "tea"\nThe next item is:',
        "completion": ' green "tea"',
    }
    # A folder of this kind is foster's own.
    with new_folder(tmp_path / "out", overwrite=True) as folder:
        write_hf(sequences(), folder)
    with new_folder(tmp_path / "out", overwrite=True) as folder:
        write_jsonl(sequences(), folder)


@pytest.mark.parametrize(("labelled", "said"), [(True, "the soft labels"), (False, "the map of items")])
def test_what_is_not_handed_on_is_said(tmp_path, labelled, said):
    model = small_recommender()
    plain = replace(sequences(), model=model.options, encoder=model.encoder, catalogue=model.catalogue)
    more = with_soft_labels(plain, model, ((0, 3),)) if labelled else with_item_map(plain, compact_item_map(model), 1)
    with new_folder(tmp_path / "out") as folder:
        write_jsonl(more, folder)
    assert f"- not here: {said}, which the folder" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_data_set_of_the_hub(tmp_path):
    import yaml

    with new_folder(tmp_path / "out") as folder:
        write_hf(sequences(), folder)
    _, header, card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    configs = {c["config_name"]: c["data_files"][0]["path"] for c in yaml.safe_load(header)["configs"]}
    assert pl.read_parquet(tmp_path / "out" / configs["prompts"]).height == 3 and "from real data: nothing" in card
    assert pl.read_parquet(tmp_path / "out" / configs["sequences"])["item_ids"].to_list() == [
        ["a", "c", "c"],
        ["b", "a"],
    ]


def test_datasets_reads_it(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    with new_folder(tmp_path / "out") as folder:
        write_hf(sequences(), folder)
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert found["train"]["item_ids"][0] == ["a", "c", "c"]
    found = datasets.load_dataset(str(tmp_path / "out"), "prompts", cache_dir=str(tmp_path / "cache"))
    assert found["train"].num_rows == 3


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in place of the hub, whose client keeps links, as the real one does."""
    root = tmp_path / "hub"

    class Api:
        def create_repo(self, name, *, repo_type, private, exist_ok):
            place = root / repo_type / name
            place.mkdir(parents=True, exist_ok=exist_ok)
            (place / "private").write_text(str(private))

        def upload_folder(self, *, repo_id, repo_type, folder_path, allow_patterns, commit_message):
            shutil.copytree(folder_path, root / repo_type / repo_id / "files", dirs_exist_ok=True)
            (root / repo_type / repo_id / "files" / ".gitattributes").touch()
            return SimpleNamespace(commit_url=f"https://hub/{repo_type}/{repo_id}/1")

    def snapshot_download(name, *, repo_type, local_files_only=False, **rest):
        files = root / repo_type / name / "files"
        if not files.is_dir():
            raise OSError("nothing in the cache" if local_files_only else "no such repository")
        snapshot = tmp_path / "links" / repo_type / name / "snapshots" / "abc"
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in files.iterdir():
            if not (snapshot / path.name).is_symlink():
                (snapshot / path.name).symlink_to(path)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "cache"))
    return root


def test_folders_go_to_the_hub_and_come_back(hub):
    model = small_recommender()
    assert model.push_to_hub("me/model") == "https://hub/model/me/model/1"
    assert (hub / "model" / "me" / "model" / "private").read_text() == "True"
    for _ in range(2):
        loaded = TextRecommender.from_pretrained("me/model")
        assert torch.equal(loaded.item_table(), model.item_table())
    data = Condensed.of_histories(
        [np.array([0, 2, 1])], 5, "random", CATALOGUE, encoder=EncoderOptions(), model=ModelOptions()
    )
    data.push_to_hub("me/data", private=False)
    assert (hub / "dataset" / "me" / "data" / "private").read_text() == "False"
    assert torch.equal(Condensed.read("me/data").items, data.items)


def test_a_search_goes_to_the_hub_without_its_models(hub, tmp_path):
    with new_folder(tmp_path / "study") as out:
        (out / "config.json").write_text(json.dumps({**marked("study"), "seed": 0}))
    small_recommender().save_pretrained(tmp_path / "study" / "retrained" / "trial-0")
    assert push_to_hub(tmp_path / "study", "me/search") == "https://hub/dataset/me/search/1"


def test_what_a_killed_copy_from_the_hub_leaves_is_removed_after_a_day(hub, tmp_path):
    small_recommender().push_to_hub("me/model")
    place = tmp_path / "cache" / "hub" / "model" / "me--model"
    for name in (".old.tmp", ".young.tmp"):
        (place / name / "whole").mkdir(parents=True)
    os.utime(place / ".old.tmp", (0, 0))
    TextRecommender.from_pretrained("me/model")
    assert sorted(path.name for path in place.iterdir()) == [".young.tmp", "abc"]


def test_sequences_on_the_hub_train_a_model(hub, tmp_path, tiny_encoder, monkeypatch):
    encoder, model = EncoderOptions(encoder=str(tiny_encoder)), ModelOptions(dim=8, heads=1)
    data = Condensed.of_histories([np.array([0, 2, 1])], 5, "random", CATALOGUE, encoder=encoder, model=model)
    data.push_to_hub("me/data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["foster", "train", "me/data", "--out", "model", "--steps", "2"])
    cli.app(standalone_mode=False)
    assert TextRecommender.from_pretrained("model").catalogue.ids == CATALOGUE.ids


def test_names_that_lead_nowhere(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"me/none: no such folder, and no model .* \(no such repository\)"):
        TextRecommender.from_pretrained("me/none")
    with pytest.raises(InputError, match=r"none: no such folder$"):
        TextRecommender.from_pretrained("none")
    with pytest.raises(InputError, match="is no name of a repository"):
        small_recommender().push_to_hub("model")
    (tmp_path / "me" / "model").mkdir(parents=True)
    with pytest.raises(InputError, match=r"me/model: has no manifest\.json"):  # what is here comes first
        TextRecommender.from_pretrained("me/model")


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
