"""What pages say of data sets, models and benchmarks; maps and curves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from foster.data.check import check
from foster.errors import InputError
from foster.inspection.curves import curves, series_of
from foster.inspection.dataset import _lengths_figure
from foster.inspection.inspect import Look, look_at
from foster.inspection.page import Figures, Paragraph, Share, Table
from foster.inspection.projection import Projection
from foster.manifest import seal


def test_data_set(data, data_folder):
    found = look_at(data_folder)
    summary = found.summary()
    assert summary.content["check"]["users"] == 80 and len(summary.warnings) == len(check(data).warnings)
    facts = dict(summary.facts)
    assert facts["dates"] == "2017-07-14 to 2018-06-09" and facts["made from"] == "log.csv"
    sections = {section.name: section for section in found.sections()}
    lengths, dates = next(b for b in sections["histories"].blocks if isinstance(b, Figures)).figures
    counted = {int(row[0]): int(row[1]) for row in lengths.numbers.rows}
    values, counts = np.unique(np.diff(data.offsets), return_counts=True)
    assert {length: count for length, count in counted.items() if count} == dict(zip(values, counts, strict=True))
    assert facts["left out"] == "nothing"
    assert sum(int(row[1].replace(",", "")) for row in dates.numbers.rows) == data.n_interactions


def test_what_was_left_out_is_said_in_words(data, tmp_path):
    dropped = data.info.dropped.model_copy(update={"k_core_users": 90, "k_core_items": 1, "k_core_interactions": 1095})
    folder = replace(data, info=data.info.model_copy(update={"dropped": dropped, "k_core": 5})).save(tmp_path / "core")
    facts = dict(look_at(folder).summary().facts)
    assert facts["left out"] == "90 users, 1 item, 1,095 interactions by the 5-core"


def test_the_last_of_the_lengths_is_open_where_longer_ones_are_in_it():
    rows = _lengths_figure(np.array([3] * 300 + [4] * 100 + [900] * 2)).numbers.rows
    assert rows == [("3", "300"), ("4 or more", "102")]
    assert _lengths_figure(np.array([3] * 300 + [4] * 100)).numbers.rows[-1] == ("4", "100")


def test_model(model_folder, data):
    found = look_at(model_folder)
    facts = dict(found.summary().facts)
    assert facts["best validation"] == "NDCG@10 0.03 at step 30"
    sections = {section.name: section for section in found.sections()}
    assert "The loss is that of one batch" in sections["curves"].blocks[0].text
    loss, ndcg = sections["curves"].blocks[1].figures
    assert loss.svg.count("<title") == ndcg.svg.count("<title") == 1
    assert ">training loss</text>" in loss.svg and ">validation NDCG@10</text>" in ndcg.svg
    table = next(b for b in sections["neighbours"].blocks if isinstance(b, Table))
    vectors = F.normalize(load_file(model_folder / "items.safetensors")["vectors"], dim=1)
    similar = vectors[0] @ vectors.T
    similar[0] = -2
    assert table.rows[0][0].text == data.texts[0] and table.rows[0][1].text == data.texts[int(similar.argmax())]


def test_audit(audit_folder):
    found = look_at(audit_folder)
    summary = found.summary()
    assert dict(summary.facts)["users"] == "60" and "not anonymous" in summary.as_text()
    sections = {section.name: section for section in found.sections()}
    pieces, held_out = (block for block in sections["pieces"].blocks if isinstance(block, Table))
    assert pieces.rows[2][:3] == ("4", Share(0.9), Share(0.5)) and held_out.rows[0] == ("2", Share(0.5), Share(0.25))
    assert pieces.head[4:6] == ("5 or more", "popularity: in a history") and len(pieces.head) == len(pieces.rows[0])
    (attacks,) = sections["membership"].blocks
    assert attacks.rows[0] == ("sequences", "0.750 (0.700 to 0.800)", Share(0.01), Share(0.02))


def test_bench(bench_folder):
    found = look_at(bench_folder)
    summary = found.summary()
    assert summary.warnings == ["td3 seed 1 failed and is in no row"]
    tables = [b for s in found.sections() for b in s.blocks if isinstance(b, Table)]
    assert [row[0] for row in tables[0].rows] == ["full", "random", "<i>foster"]
    assert tables[0].rows[2][1:4] == ("0.0800 ± 0.0000", "0.0405 ± 0.0007", "0.802")


def test_a_bench_of_several_budgets_has_curves(bench_folder, tmp_path):
    several = tmp_path / "several"
    shutil.copytree(bench_folder, several)
    content = json.loads((several / "results.json").read_text())
    content["rows"]["random-40"] = {**content["rows"]["random"], "budget": 40}
    (several / "results.json").write_text(json.dumps(content))
    seal(several)
    svg = look_at(several).sections()[0].blocks[-2].figures[0].svg
    assert "M, sequences" in svg and ">40<" in svg


def test_a_bench_without_results_or_with_damaged_ones(bench_folder, tmp_path):
    started = tmp_path / "started"
    shutil.copytree(bench_folder, started)
    (started / "results.json").unlink()
    with pytest.raises(InputError, match=r"results\.json: no such file"):
        look_at(started)
    seal(started)
    found = look_at(started)
    assert "without results so far" in found.summary().sentence and [s.name for s in found.sections()] == ["folders"]
    for content in ({"rows": {"full": {"ndcg@10": 1}}, "about": {}}, {"rows": []}):
        (started / "results.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"results\.json: is not (in|the file that) manifest\.json"):
            look_at(started)
        seal(started)
        with pytest.raises(InputError, match=r"results\.json: field '.*' is "):
            look_at(started)


def test_study(study_folder):
    found = look_at(study_folder)
    summary = found.summary()
    facts = dict(summary.facts)
    assert facts["trials"] == "2 finished, 1 pruned"
    assert facts["best of the search"] == "trial 1, validation NDCG@10 0.0400"
    assert facts["on the full log"].startswith("The search was right") and facts["encoder"] == "encoder"
    assert "tell trial 1 from all others" in facts["noise"]
    assert summary.sentence.startswith("A search for options in 3 trials")
    assert [line.split("  ")[-2].strip() for line in summary.lines] == ["", "0.0100 ± 0.0040"]
    sections = {section.name: section for section in found.sections()}
    figure, best, alike = sections["trials"].blocks
    assert "tell trial 1 from all others" in alike.text
    assert "2 trials of 3 finished. The first has 0.0300, the best, trial 1, has 0.0400." in figure.caption
    assert figure.numbers.rows == [("0", "complete", "0.03"), ("1", "complete", "0.04"), ("2", "pruned", "")]
    assert [(row[0], row[2]) for row in best.rows] == [("1", ""), ("0 (default)", "0.0100 ± 0.0040")]
    options = sections["options"].blocks[1]
    assert options.rows[0] == ("dim", "one of 8, 16", "8", Share(0.75))
    assert options.rows[1][:2] == ("<i>lr", "0.001 to 0.01 on a log scale")
    assert options.rows[2] == ("layers", "fixed", "1", "")
    assert sections["log"].blocks[1].rows[1] == ("0", "0.03", "", "", "<b>broke")
    assert sections["log"].blocks[1].rows[2] == ("2", "0.02", "0.03", "0.0200 ± 0.0040", "")
    assert sections["folders"].blocks[1].lines == ["retrained/trial-1"]


def test_a_study_whose_first_trial_is_the_best_says_so_once(study_folder, tmp_path):
    first = shutil.copytree(study_folder, tmp_path / "first")
    (first / "trials.csv").write_text("trial,state,value\n0,complete,0.0415\n1,complete,0.04\n2,complete,0.03\n")
    results = json.loads((first / "results.json").read_text())
    before = {"search": 1, "best": 1, "regret": 0.0, "other": 0, "behind": 0.02, "noise": 0.03}  # of earlier versions
    found = {**results, "trials": {"complete": 3}, "importance": None, "verdict": before}
    (first / "results.json").write_text(json.dumps(found))
    seal(first)
    sections = {section.name: section for section in look_at(first).sections()}
    figure = sections["trials"].blocks[0]
    assert "3 trials of 3 finished. The best is the first, trial 0, with 0.0415." in figure.caption
    assert ">pruned<" not in figure.svg and ">best so far<" in figure.svg
    about = sections["options"].blocks[0].text
    assert about == "Importance of options: not given, since 3 trials were finished and 20 are needed."


def test_a_pruned_trial_is_drawn_and_in_the_legend(study_folder, tmp_path):
    pruned = shutil.copytree(study_folder, tmp_path / "pruned")
    (pruned / "trials.csv").write_text("trial,state,value\n0,complete,0.03\n1,complete,0.04\n2,pruned,0.01\n")
    seal(pruned)
    assert ">pruned<" in look_at(pruned).sections()[0].blocks[0].svg


def test_a_study_without_results_or_with_damaged_ones(study_folder, tmp_path):
    started = tmp_path / "started"
    shutil.copytree(study_folder, started)
    (started / "trials.csv").write_text("trial,state\nx,y\n")
    with pytest.raises(InputError, match=r"trials\.csv: is not the file that manifest.json lists"):
        look_at(started)
    seal(started)
    with pytest.raises(InputError, match=r"trials\.csv: cannot be read"):
        look_at(started)
    results = json.loads((started / "results.json").read_text())
    for wrong in ({"best": [{}]}, {"importance": {"dim": "x"}}, {"source": "nothing"}, {"verdict": {}}):
        (started / "results.json").write_text(json.dumps({**results, **wrong}))
        seal(started)
        with pytest.raises(InputError, match=r"results\.json: field '.*' is "):
            look_at(started)
    (started / "results.json").unlink()
    seal(started)
    found = look_at(started)
    assert "without results so far" in found.summary().sentence and not found.summary().warnings
    ended = {"trials": {"0": "a" * 64, "1": "b" * 64}}
    seal(started, ended)
    summary = look_at(started).summary()
    assert summary.sentence == "A search for options in 2 trials, without tables."
    assert summary.warnings == ["study.db is missing, without which foster tune cannot go on; copy the study again"]
    (started / "study.db").touch()
    seal(started, ended)
    assert not look_at(started).summary().warnings
    assert [section.name for section in found.sections()] == ["folders"]


def test_only_sequences_are_compared_with_a_log(
    data, data_folder, model_folder, audit_folder, bench_folder, study_folder
):
    for folder in (data_folder, model_folder, audit_folder, bench_folder, study_folder):
        with pytest.raises(InputError, match="--data"):
            look_at(folder, Look(data))


def test_map_is_that_of_principal_components():
    vectors = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * torch.arange(7, 0, -1) + 3
    found = Projection.of(vectors)
    centred = (vectors - vectors.mean(0)).double()
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    expected = (centred @ directions[:2].T).numpy()
    assert np.allclose(np.abs(found.points), np.abs(expected), atol=1e-4)
    assert found.explained == pytest.approx(((values**2)[:2] / (values**2).sum()).tolist())
    assert np.allclose(found.place(vectors[:5]), found.points[:5], atol=1e-5)
    assert Projection.of(torch.ones(4, 3)).points.shape == (4, 2)


def test_words_at_the_ends_of_the_map():
    vectors = torch.stack([torch.linspace(-5, 5, 40), torch.zeros(40)], 1)
    texts = ["common milk"] * 20 + ["common bread"] * 20
    ends = {name: (words, text) for name, words, text in Projection.of(vectors).ends(texts)}
    assert {ends["left"][0].split(",")[0], ends["right"][0].split(",")[0]} == {"milk", "bread"}


def test_curves_are_of_numbers_that_change():
    records = [
        {"step": 0, "a": 1.0, "b": 2, "reset": 3, "word": "x"},
        {"step": 5, "a": 1.0, "b": 4, "once": 1},
        {"seconds": 3},
        7,
    ]
    assert series_of(records) == {"a": ([0, 5], [1.0, 1.0]), "b": ([0, 5], [2, 4])}
    (section,) = curves(records, "Training", "about")
    assert [b.text for b in section.blocks if isinstance(b, Paragraph)] == ["about", "The same all the time: a 1."]
    (figure,) = section.blocks[-1].figures
    assert "2 at step 0, 4 at step 5" in figure.caption and figure.numbers.rows == [("0", "2"), ("5", "4")]
    assert curves([{"step": 1, "a": 1}], "Training", "about") == []
