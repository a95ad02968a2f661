"""What is stored of condensed sequences, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from condensed_labels import soft_labelled
from foster.condensed.labels import compact_item_map, with_item_map
from foster.condensed.sequences import Condensed
from foster.errors import InputError
from foster.manifest import seal
from small_models import small_recommender


def test_draws_are_stored_and_damaged_ones_are_seen(tmp_path):
    labelled, _ = soft_labelled(small_recommender(), k=3, generator=torch.Generator().manual_seed(0))
    labelled.save(tmp_path / "good")
    assert torch.equal(Condensed.read(tmp_path / "good").draws, labelled.draws)
    labelled.draws[2, 3] = 3  # steps have three items
    labelled.save(tmp_path / "bad")
    with pytest.raises(InputError, match=r"bad/sequences.safetensors: 'draws' do not fit the labels"):
        Condensed.read(tmp_path / "bad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.update(codes=tensors["codes"].to(torch.int8)),
            "'codes' are not those of this version",
        ),
        (lambda tensors: tensors.pop("codes"), "'draws' do not fit the labels"),
        (lambda tensors: (tensors.pop("codes"), tensors.pop("draws")), "'code_scales' belongs to labels"),
        (lambda tensors: tensors.pop("code_scales"), "soft labels lack 'code_scales' or 'adapter'"),
        (lambda tensors: tensors.pop("adapter.weight"), "soft labels lack 'code_scales' or 'adapter'"),
        (lambda tensors: tensors["items"][0, 0].fill_(-1), "'items' do not fit catalogue.parquet"),
        (lambda tensors: tensors["items"][0, 0].fill_(40), "'items' do not fit catalogue.parquet"),
        (lambda tensors: tensors.update(items=tensors["items"][:, :-1].clone()), "'items' do not fit 'weights'"),
        (lambda tensors: tensors.pop("weights"), "'items' or 'weights' are missing"),
        (lambda tensors: tensors["weights"][1, 2].fill_(-0.5), "'weights' are no probabilities"),
        (lambda tensors: tensors["weights"][1, 2].mul_(0.5), "'weights' are no probabilities"),
        (lambda tensors: tensors["weights"][1, 2].fill_(0), "'weights' are no probabilities"),  # a hole
        (lambda tensors: tensors["weights"][1, 2].fill_(torch.nan), "weights has numbers that are not finite"),
        (lambda tensors: tensors["code_scales"][1, 2].fill_(torch.inf), "code_scales has numbers that are not finite"),
        (lambda tensors: tensors["code_scales"][1, 2].neg_(), "'codes' are no labels of 4 bits"),
        (lambda tensors: tensors["codes"][1, 2].fill_(0xF3), "'codes' are no labels of 4 bits"),
        (
            lambda tensors: tensors.update(draws=tensors["draws"].to(torch.int16)),
            "'draws' are of type I16 instead of U8",
        ),
        (
            lambda tensors: tensors.update(weights=tensors["weights"].float()),
            "'weights' are of type F32 instead of F16",
        ),
        (lambda tensors: tensors.update(more=tensors["weights"].clone()), "'more' is unknown"),
        (lambda tensors: tensors.update(draws=tensors["draws"][:, :0].clone()), "'draws' are empty"),
        (
            lambda tensors: tensors.update({"adapter.weight": tensors["adapter.weight"][0].clone()}),
            "other weights than|'weight' of the adapter is",
        ),
        (lambda tensors: tensors.update(codes=tensors["codes"][1:].clone()), "'codes' do not fit the sequences"),
        (lambda tensors: tensors.update(codes=tensors["codes"][..., 1:].clone()), "'codes' do not fit the map"),
        (lambda tensors: tensors.update(draws=tensors["draws"] + 5), "'draws' do not fit the labels"),
        (  # item vectors of the teacher, as an earlier version stored them
            lambda tensors: tensors.update(keys=torch.zeros(40, len(tensors.pop("adapter.weight"))).half()),
            "'keys' is unknown",
        ),
    ],
)
def test_labels_of_another_version_or_without_their_parts_are_refused(tmp_path, change, message):
    labelled, _ = soft_labelled(small_recommender(), k=3, generator=torch.Generator().manual_seed(0))
    path = labelled.save(tmp_path / "folder") / "sequences.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    seal(tmp_path / "folder")
    with pytest.raises(InputError, match=message):
        Condensed.read(tmp_path / "folder")


@pytest.mark.parametrize(
    "change",
    [
        lambda windows: windows[:-1],
        lambda windows: [*windows, windows[-1]],
        lambda windows: [windows[1], windows[0], *windows[2:]],
        lambda windows: [windows[0], [windows[1][0] - 1, windows[1][1] - 1], *windows[2:]],
        lambda windows: [
            windows[0],
            [windows[1][0], windows[1][1] + 1],
            [windows[2][0] + 1, windows[2][1]],
            *windows[3:],
        ],
        lambda windows: [[float(end) for end in window] for window in windows],
        lambda windows: [],
        lambda windows: None,
    ],
)
def test_windows_that_do_not_fit_the_labels_are_refused(tmp_path, change):
    labelled, _ = soft_labelled(small_recommender(), k=3)
    path = labelled.save(tmp_path / "folder") / "config.json"
    config = json.loads(path.read_text())
    assert len(config["windows"]) > 3 and Condensed.read(tmp_path / "folder").windows == labelled.windows
    path.write_text(json.dumps(config | {"windows": change(config["windows"])}))
    seal(tmp_path / "folder")
    with pytest.raises(InputError, match=r"config\.json: field 'windows' is wrong"):
        Condensed.read(tmp_path / "folder")


def test_labels_that_no_folder_can_hold_are_an_error():
    labelled, _ = soft_labelled(small_recommender(), k=3)
    for codes in (labelled.codes * torch.nan, labelled.codes * 1e7):
        with pytest.raises(InputError, match="codes of the sequences is not finite; was the teacher"):
            replace(labelled, codes=codes).rounded()
    with pytest.raises(InputError, match="weight of the sequences is not finite"):
        replace(labelled, adapter={"weight": labelled.adapter["weight"] + 1e5}).rounded()


@pytest.mark.parametrize("field", ["whole_steps", "label_bits", "adapter_bits", "adapter_features"])
def test_a_folder_that_does_not_say_how_it_is_packed_is_refused(tmp_path, field):
    labelled, _ = soft_labelled(small_recommender())
    labelled.save(tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config[field]
    path.write_text(json.dumps(config), encoding="utf-8")
    seal(tmp_path / "out")
    with pytest.raises(InputError, match=f"config.json: field '{field}' is missing"):
        Condensed.read(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("adapter.weight"), "'weight.scales' are of no part of a map"),
        (
            lambda tensors: (tensors.pop("adapter.weight"), tensors.pop("adapter.weight.scales")),
            "the parts of the 'adapter' are missing",
        ),
        (lambda tensors: tensors.update(draws=tensors["lengths"][None].clone()), "'draws' do not fit the labels"),
        (lambda tensors: tensors.update(codes=tensors["lengths"][None, None].clone()), "soft labels lack"),
        (lambda tensors: tensors.update(lengths=tensors["lengths"][1:].clone()), "'items' are not 392 numbers"),
        (lambda tensors: tensors.update(items=tensors["items"][2:].clone()), "'items' cannot be unpacked"),
    ],
)
def test_a_map_without_labels_is_whole_or_refused(tmp_path, change, message):
    model = small_recommender()
    items = torch.randint(40, (5, 8, 1), generator=torch.Generator().manual_seed(0)).repeat(10, 1, 1)
    info = {"from_real_data": "nothing"}
    plain = Condensed(
        "distilled",
        "foster",
        items,
        torch.ones(items.shape),
        None,
        None,
        model.catalogue,
        model.encoder,
        model.options,
        info=info,
    )
    made = with_item_map(plain, compact_item_map(model), 1).rounded()
    path = made.save(tmp_path / "folder") / "sequences.safetensors"
    again = Condensed.read(tmp_path / "folder")
    assert torch.equal(again.items, made.items) and torch.equal(again.adapter["weight"], made.adapter["weight"])
    tensors = load_file(path)
    assert tensors["items"].dtype == torch.uint8
    change(tensors)
    save_file(tensors, path)
    seal(tmp_path / "folder")
    with pytest.raises(InputError, match=rf"sequences\.safetensors: .*{message}"):
        Condensed.read(tmp_path / "folder")
