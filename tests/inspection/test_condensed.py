"""Sequences: what is said of their steps, labels, popularity and categories."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from foster.artefacts import METRICS_NAME, folder_bytes
from foster.condensed.contexts import by_window
from foster.condensed.sequences import Condensed
from foster.errors import InputError
from foster.inspection.coverage import Category, Masses, categories, category_table, popularity
from foster.inspection.inspect import Look, look_at
from foster.inspection.labels import keys_of, some_windows
from foster.inspection.page import Paragraph, Share, Table
from foster.inspection.sequences import MOST_ITEMS, MOST_STEPS, draw_counts, shown_sequences
from foster.manifest import seal
from mixture_steps import steps


def test_steps_show_items_by_probability(distilled):
    shown = shown_sequences(distilled, None)
    assert [s.length for s in shown] == [8] * 4
    items, weights = distilled.items[1, 2], distilled.weights[1, 2]
    order = weights.argsort(descending=True)
    step = shown[1].steps[2]
    assert [item.text.text for item in step.items] == [distilled.catalogue.texts[int(items[i])] for i in order]
    assert step.items[0].said.startswith(f"{100 * float(weights.max()):.1f}")
    assert step.nearest is None and step.cosine is None


def test_items_that_are_certain_or_only_drawn_have_a_share(data, distilled):
    weights = torch.zeros_like(distilled.weights)
    weights[..., 0] = 1
    for shown in shown_sequences(replace(distilled, weights=weights), None):
        for step in shown.steps:
            first, *others = [item.said for item in step.items]
            assert first.startswith("100 %, drawn") and all(said.startswith("0 %, drawn") for said in others)
    one = Condensed.of_histories(
        [data.sequence(0)], 10, "random", data.catalogue, encoder=distilled.encoder, model=distilled.model
    )
    assert {item.said for step in shown_sequences(one, None)[0].steps for item in step.items} == {""}


def test_draws_are_counted_over_the_windows(distilled):
    counts, windows = draw_counts(distilled)
    expected = torch.zeros_like(counts)
    for part, (start, end) in zip(by_window(distilled.draws, distilled.windows), distilled.windows, strict=True):
        for row in range(len(distilled)):
            for place in range(start, end):
                expected[row, place, part[row, place - start]] += 1
    assert torch.equal(counts, expected) and torch.equal(counts.sum(-1), windows)
    # The whole sequence, and windows of five of eight steps that begin at every step.
    assert windows[0].tolist() == [2, 3, 4, 5, 5, 4, 3, 2]


def test_nearest_item_of_a_mixture(distilled, data):
    vectors = torch.randn(data.n_items, 6, generator=torch.Generator().manual_seed(2))
    shown = shown_sequences(distilled, vectors)
    for row in range(4):
        for place in range(8):
            items, weights, step = distilled.items[row, place], distilled.weights[row, place], shown[row].steps[place]
            cosines = F.cosine_similarity((weights[:, None] * vectors[items]).sum(0)[None], vectors)
            best = int(cosines.argmax())
            if best == int(items[weights.argmax()]):
                assert step.nearest is None
            else:
                assert step.nearest.text == data.texts[best]
            assert float(step.cosine) == pytest.approx(float(cosines.max()), abs=0.006)
    assert {step.nearest is None for sequence in shown for step in sequence.steps} == {True, False}


def test_a_page_has_a_limit_and_says_so(data, teacher, distilled_folder, tmp_path):
    items, weights = steps(data, 20, 400, 16)
    many = Condensed(
        "distilled", "dm", items, weights, None, None, data.catalogue, teacher.encoder, teacher.options,
        info={"from_real_data": "nothing"},
    )  # fmt: skip
    shown = shown_sequences(many, None)
    assert sum(len(s.steps) for s in shown) == MOST_STEPS and {s.hidden for s in shown} == {300}
    assert {len(step.items) for s in shown for step in s.steps} == {MOST_ITEMS}
    assert shown[0].steps[0].hidden == 16 - MOST_ITEMS
    sections = look_at(many.save(tmp_path / "many")).sections()
    assert "2,000 of 8,000 steps are shown" in sections[0].blocks[0].text


def test_labels_say_what_the_teacher_says(distilled, teacher):
    keys = keys_of(distilled, distilled.encoder, "cpu")
    windows = some_windows(distilled, keys).windows
    assert [w.title for w in windows] == [f"Sequence {n}, steps 3 to 7" for n in (1, 2, 3, 4)]
    part = by_window(distilled.draws, distilled.windows)[3][1]
    context = distilled.items[1, 2:7].gather(-1, part[:, None])[:, 0]
    table = teacher.item_table()
    with torch.no_grad():
        scores = teacher.scores(teacher.backbone(table[context][None]), table)[0, -1]
    expected = torch.softmax(scores, 0).topk(5)
    rows = windows[1].expected.rows
    assert [row[0].text for row in rows] == [distilled.catalogue.texts[i] for i in expected.indices]
    assert np.allclose([row[1].value for row in rows], expected.values, atol=1e-4)
    assert [item.text for item in windows[1].read] == [distilled.catalogue.texts[i] for i in context]


def test_popularity_is_compared_with_the_log(data, distilled_folder):
    found = look_at(distilled_folder, Look(data))
    blocks = next(s for s in found.sections() if s.name == "coverage").blocks
    table = next(block for block in blocks if isinstance(block, Table))
    assert table.head == ("items", "log", "steps", "windows")
    for column in (1, 2, 3):
        assert sum(row[column].value for row in table.rows) == pytest.approx(1)
    counts = np.sort(data.item_counts())[::-1]
    half = round(0.5 * len(counts))
    assert table.rows[-1][1].value == pytest.approx(counts[half:].sum() / counts.sum())
    assert any(isinstance(b, Table) and b.head[0] == "category" for b in blocks)


def test_shares_of_popular_items():
    masses = Masses({"log": np.array([1.0, 6.0, 3.0, 0.0]), "steps": np.array([0.0, 0.0, 2.0, 2.0])})
    figure, table = popularity(masses, np.array([1, 2, 0, 3]), "most popular first")
    assert [[cell.value for cell in row[1:]] for row in table.rows] == [[0.9, 0.5], [0.1, 0.5]]
    assert "log: 60.0 % in the first tenth" in figure.caption.lower()


def test_categories_are_what_many_items_share(data):
    values = ["a"] * 10 + ["b"] * 8 + [""] * 2
    assert [c.name for c in categories([f"t{i}, {v}" if v else f"t{i}" for i, v in enumerate(values)], None, [])] == [
        "what stands behind the last comma of a text"
    ]
    assert categories([f"title {i}" for i in range(40)], None, []) == []
    assert [c.name for c in categories(data.texts, data, data.item_ids)] == ["category"]
    mass = np.zeros(20)
    mass[0] = 3
    sentence, table = category_table(Category("kind", values), Masses({"steps": mass}))
    assert sentence == "Steps hold items of 1 of the 2 values."
    assert [[str(cell) for cell in row] for row in table.rows] == [
        ["a", "50.0 %", "100 %"], ["b", "40.0 %", "0 %"], ["none", "10.0 %", "0 %"],
    ]  # fmt: skip
    assert isinstance(table.rows[0][1], Share)


def test_other_data_are_a_warning_and_none_in_common_an_error(data, distilled_folder):
    changed = replace(data, info=data.info.model_copy(update={"name": "other", "fingerprint": "0" * 64}))
    assert look_at(distilled_folder, Look(changed)).summary().warnings == [
        "other is other data than that which these sequences were made from"
    ]
    foreign = replace(data, items=data.items.with_columns(item_id="item_id" + data.items["item_id"]))
    with pytest.raises(InputError, match="has none of the items"):
        look_at(distilled_folder, Look(foreign))


def test_without_its_encoder_a_folder_is_shown_all_the_same(distilled, tmp_path, network):
    away = replace(distilled, encoder=distilled.encoder.model_copy(update={"encoder": "nobody/has-this"}))
    sections = {s.name: s for s in look_at(away.save(tmp_path / "away")).sections()}
    for name in ("map", "labels"):
        (block,) = sections[name].blocks
        assert isinstance(block, Paragraph) and "nobody/has-this is not on this machine" in block.text
    network.clear()  # the hub was asked for it


def test_a_terminal_shows_some_sequences_and_how_many_more_there_are(data, distilled, tmp_path):
    histories = [data.sequence(user) for user in range(25)]
    many = Condensed.of_histories(
        histories, 10, "random", data.catalogue, encoder=distilled.encoder, model=distilled.model,
        info={"from_real_data": "real histories"},
    )  # fmt: skip
    summary = look_at(many.save(tmp_path / "many")).summary()
    assert len(summary.lines) == 21 and summary.lines[-1].strip() == "and 5 more"
    assert "map of items" not in dict(summary.facts)


def test_summary_says_how_the_form_was_chosen(distilled, tmp_path):
    folder = distilled.save(tmp_path / "few")
    assert "form" not in dict(look_at(folder).summary().facts)
    rows = [{"targets": form, "student_ndcg@10": ndcg} for form, ndcg in (("soft", 0.04761), ("written", 0.0571))]
    (folder / METRICS_NAME).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    seal(folder)
    facts = dict(look_at(folder).summary().facts)
    assert (
        facts["form"] == "chosen by validation NDCG@10 of a short student: written histories 0.0571, soft labels 0.0476"
    )


def test_summary_says_what_it_is(distilled_folder, distilled):
    summary = look_at(distilled_folder).summary()
    facts = dict(summary.facts)
    assert summary.sentence.startswith(
        "4 synthetic sequences of up to 8 steps with 28 soft labels each (8 for the whole, 5 for each of 4 windows), "
    )
    assert facts["soft labels"].endswith("4 bits a label, for whole sequences and 4 windows of 5 steps")
    assert facts["map of items"] == "experts, 16 bits a weight"
    assert facts["state"] == "of distillation step 2" and facts["from real data"].startswith("<b>histories</b>")
    content = summary.as_dict()
    assert content["kind"] == "distilled" and [len(s) for s in content["sequences"]] == [8] * 4
    best = distilled.items[0, 0, distilled.weights[0, 0].argmax()]
    assert content["sequences"][0][0]["item_id"] == distilled.catalogue.ids[int(best)]
    sizes = [int(str(row[1]).replace(",", "")) for row in summary.parts.rows]
    assert sum(sizes) == folder_bytes(distilled_folder)
    assert facts["bytes without item texts"].endswith("README.md, metrics.jsonl and manifest.json are left out, too")
    assert {"soft labels", "the teacher's map from texts to items"} <= {row[0] for row in summary.parts.rows}
