"""The benchmark: fair students, what is made once, resuming, refusals, processes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from foster.artefacts import read_json, write_json
from foster.bench import bench as benches
from foster.bench import estimate as trials
from foster.bench import making, plan
from foster.bench import students as training
from foster.bench.bench import run_bench
from foster.bench.folder import BenchFolder
from foster.bench.options import BenchOptions
from foster.bench.rows import METHODS, Recipe, students_of, variants_of
from foster.bench.students import RECIPES
from foster.condensed.sequences import Condensed
from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.distillation import compact
from foster.engine import Engine
from foster.errors import InputError
from foster.estimation.jobs import untrained
from foster.evaluation.metrics import metrics_of
from foster.manifest import seal
from foster.models.options import ModelOptions
from foster.runs import pretrain
from foster.text.options import EncoderOptions
from foster.training import imitation
from foster.training.options import HARD_LABELS, STUDENT, TeacherOptions, TrainOptions
from foster.training.trajectory import Trajectory
from processes import in_processes
from synthetic_log import synthetic_log, write_csv


class Killed(BaseException):
    """What a test puts in the place of a kill."""


EXTRA = {"foster": {"method": "foster", "steps": 2, "length": 6, "select_every": 2}}


STILL = {"foster": EXTRA["foster"] | {"steps": 0}, "dm": {"method": "dm", "steps": 0, "length": 6}}


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Dataset:
    return Dataset.prepare(write_csv(tmp_path_factory.mktemp("log") / "log.csv", synthetic_log()), k_core=0)


@pytest.fixture
def bench(log, tmp_path, tiny_encoder):
    recipe = Recipe(
        EncoderOptions(encoder=str(tiny_encoder)),
        ModelOptions(dim=8, layers=1, heads=1, max_length=8),
        TrainOptions(steps=10, eval_every=5),
        TeacherOptions(checkpoints=4),
    )

    def run(
        methods="foster", seeds=1, budgets="3", extra=EXTRA, steps=6, new_items=0.0, reference=None, sizes=None, **rest
    ):
        options = BenchOptions(
            methods=methods,
            seeds=seeds,
            **({} if budgets is None else {"budgets": budgets}),
            bytes=sizes,
            student_steps=steps,
            new_items=new_items,
            reference=reference,
        )
        rest = {"recipe": recipe, "engine": Engine("cpu"), **rest}
        return run_bench(log, tmp_path / "out", options=options, extra=extra, **rest)

    run.out = tmp_path / "out"
    run.recipe = recipe
    return run


def test_a_budget_in_bytes_holds_for_every_method(bench, monkeypatch):
    for recipe in ("LINEAR", "EXPERTS"):
        monkeypatch.setattr(compact, recipe, TrainOptions(steps=4))
    still = STILL | {"foster": STILL["foster"] | {"window": 4}}
    result = bench(methods="foster,dm,random-length", extra=still, budgets=None, sizes="60000")
    rows = result["rows"]
    assert {"popularity", "random", "random-length", "foster", "dm", "full"} == set(rows)
    for name in ("random", "random-length", "foster", "dm"):
        assert 0 < rows[name]["bytes"] <= 60_000, name
        assert rows[name]["in_bytes"]
    made = Condensed.read(bench.out / "seed0" / "foster-60000B")
    assert made.labeller is not None and made.info["options"]["start"] == "generated"
    assert made.items.shape[1] == made.info["options"]["length"] == 4  # whole windows of the 6 steps asked for
    again = bench(methods="foster,dm,random-length", extra=still, budgets=None, sizes="60000")
    assert again["rows"]["foster"]["ndcg@10"] == rows["foster"]["ndcg@10"]  # found again, not refused


def test_bytes_that_are_too_few_for_a_row_are_refused_before_anything_is_trained(bench):
    rows = {"labels": {"method": "foster", "targets": "soft"}}
    message = (
        r"^row 'labels': --bytes 500: the smallest map of items and 1 sequence of .* take (\d+) bytes; give at least"
    )
    with pytest.raises(InputError, match=message):
        bench(methods="random", extra=rows, budgets=None, sizes="500,60000")
    assert not bench.out.exists()


def test_a_row_has_no_other_methods_name(bench):
    for name in ("random", "full", "td3"):
        message = f"row '{name}' has the name of a method, and is of dm; rename it"
        with pytest.raises(InputError, match=message):
            bench(extra={name: {"method": "dm", "steps": 0}})
    assert not bench.out.exists()


def test_few_bytes_hold_written_histories_and_their_students_start_with_the_map(bench, monkeypatch):
    monkeypatch.setattr(compact, "LINEAR", TrainOptions(steps=4))
    trained, original = [], training.train

    def counted(source, **rest):
        trained.append((source, rest["model"]))
        return original(source, **rest)

    monkeypatch.setattr(training, "train", counted)
    rows = {
        "labels": {"method": "foster", "targets": "soft"},
        "sequences": {"method": "foster", "targets": "next"},
        "written": {"method": "foster", "targets": "written"},
    }
    given = {"methods": "foster", "extra": rows, "budgets": None, "sizes": "3500"}
    result = bench(**given)
    rows = result["rows"]
    assert all(0 < rows[name]["bytes"] <= 3500 for name in ("foster", "labels", "sequences", "written"))
    assert "its map of items" in rows["written"]["from_real_data"]
    # Validation users chose one of the two forms.
    assert rows["foster"]["from_real_data"] in (rows["labels"]["from_real_data"], rows["written"]["from_real_data"])
    shapes = {(source.codes is None, source.adapter is None): model.adapter for source, model in trained}
    assert shapes == {(True, False): "linear", (False, False): "moe", (True, True): "moe"}
    trained.clear()
    bench(**given)
    assert not trained  # found again, not refused


def test_budgets_in_bytes_and_in_sequences_are_one_too_many(bench):
    with pytest.raises(InputError, match="--bytes: gives sizes in bytes and --budgets in sequences; give one"):
        bench(methods="foster", extra=None, sizes="60000")
    with pytest.raises(InputError, match="--bytes 5k: give a size in bytes"):
        bench(methods="foster", extra=None, budgets=None, sizes="5k")


def test_random_popularity_and_full_are_always_there(bench):
    result = bench(methods="random-length", extra=None)
    assert list(result["rows"]) == ["popularity", "random", "random-length", "full"]
    for name, row in result["rows"].items():
        assert 0 <= row["ndcg@10"] <= 1, name
        assert row["bytes"] or name == "full"
    assert result["rows"]["full"]["of_full"] == 1.0
    assert {"results.md", "results.json", "results.csv"} <= {path.name for path in bench.out.iterdir()}


def test_a_killed_benchmark_goes_on_and_makes_nothing_twice(bench, monkeypatch):
    made, alive = [], []
    for module, name in ((making, "pretrain"), (making, "select"), (making, "distill"), (training, "train")):
        original = getattr(module, name)

        def counted(*arguments, name=name, original=original, **rest):
            made.append(name)
            if name == "distill" and not alive:
                raise Killed
            return original(*arguments, **rest)

        monkeypatch.setattr(module, name, counted)
    with pytest.raises(Killed):
        bench()
    assert made == ["pretrain", "select", "train", "train", "distill"]
    alive.append(True)
    made.clear()
    first = bench()
    assert made == ["distill", "train", "train"]
    made.clear()
    again = bench(seeds=2)
    assert made.count("pretrain") == 1 and made.count("distill") == 1
    assert again["rows"]["foster"]["seeds"] == [0, 1] and first["rows"]["foster"]["seeds"] == [0]
    made.clear()
    assert bench(seeds=2) == again
    assert not made


def test_what_killed_benchmarks_left_goes_after_a_day(bench):
    bench(methods="random")
    old, new = (bench.out / "seed0" / f".{name}.json.0.tmp" for name in ("random-3", "full"))
    tables = bench.out / ".results.md.0.tmp"
    for left in (old, new, tables):
        left.write_text("part")
    for left in (old, tables):
        os.utime(left, (0, 0))
    bench(methods="random")
    assert not old.exists() and not tables.exists() and new.exists()


def test_an_artefact_without_its_cost_is_made_again(bench):
    bench()
    (bench.out / "seed0" / "foster-3.json").unlink()
    (bench.out / "seed0" / "foster-3.made.json").unlink()
    assert bench()["rows"]["foster"]["make_seconds"] > 0


def test_the_recipe_that_is_better_on_validation_counts(bench, monkeypatch):
    original, seen = training.train, []

    def scripted(*arguments, **rest):
        model, fit = original(*arguments, **rest)
        fit.best_ndcg = {0.0: 0.2, ModelOptions().dropout: 0.3}[rest["model"].dropout]
        seen.append(rest["train"].lr)
        return model, fit

    monkeypatch.setattr(training, "train", scripted)
    rows = bench()["rows"]
    assert rows["foster"]["recipes"] == rows["random"]["recipes"] == ["hard"]
    assert seen == [recipe.lr for recipe in RECIPES.values()] * 2


def test_a_row_that_another_method_made_is_no_row_of_this_one(bench):
    bench(methods="random", extra={"x": {"method": "random-length"}})
    with pytest.raises(InputError, match="row 'x' was made by random-length; give the row another name, or remove"):
        bench(methods="random", extra={"x": {"method": "stratified"}})


def test_runs_of_sequences_that_were_made_again_are_made_again(bench):
    students = {"mean": {"backbone": "mean"}}
    bench(students=students)
    path = bench.out / "seed0" / "foster@mean-3.json"
    rewritten(bench.out, path, bytes=1)
    bench(students=students)
    assert json.loads(path.read_text())["bytes"] == 1  # finished: kept as it is
    rewritten(bench.out, path, sequences_sha256="those of before")
    bench(students=students)
    assert json.loads(path.read_text())["bytes"] > 1


def rewritten(out, path, **fields):
    """Write a record with other fields, as a benchmark would have."""
    content = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    BenchFolder(out, None).write(path, {**content, **fields})


def test_what_was_changed_in_a_benchmark_is_refused(bench):
    bench(seeds=2)
    record, other = (bench.out / f"seed{seed}" / "random-3.json" for seed in (0, 1))
    ranks, teacher = bench.out / "seed0" / "random-3.ranks.npy", bench.out / "seed0" / "teacher"
    made, sequences = bench.out / "seed0" / "foster-3.made.json", bench.out / "seed0" / "foster-3"
    text = record.read_text()

    def refused(match, *paths):
        with pytest.raises(InputError, match=match):
            bench(seeds=2)
        for path in paths:
            shutil.copy(bench.out.parent / path.name, path)

    for path in (record, ranks, bench.out / "bench.json", bench.out / "manifest.json"):
        shutil.copy(path, bench.out.parent / path.name)
    record.write_text(text.replace('"random"', '"foster"', 1))
    refused(r"random-3\.json: is damaged, was changed, or an earlier version made it; remove it", record)
    shutil.copy(other, record)
    refused(r"random-3\.json: is of another benchmark, or of another run; remove it", record)
    shutil.copy(made, record)
    refused(r"random-3\.json: is of another benchmark, or of another run; remove it", record)
    ranks.write_bytes(bytes([*ranks.read_bytes()[:-1], 1]))
    refused(r"random-3\.ranks\.npy: is missing or damaged; remove .*random-3\.json", ranks)
    content = read_json(bench.out / "bench.json")
    write_json(bench.out / "bench.json", {**content, "foster": "0"})
    refused(r"bench\.json: is not the file that manifest\.json lists")
    seal(bench.out)
    refused("is of another benchmark, or of another run", bench.out / "bench.json", bench.out / "manifest.json")
    (bench.out / "manifest.json").unlink()
    refused(r"has no manifest\.json", bench.out / "manifest.json")
    for one, two in ((teacher, bench.out / "seed1" / "teacher"), (sequences, bench.out / "seed1" / "foster-3")):
        shutil.move(one, bench.out.parent / "first")
        shutil.copytree(two, one)
        (bench.out / "seed0" / "foster-3.json").unlink(missing_ok=True)
        if one == teacher:
            refused("is of seed 1; remove it")
        else:
            bench(seeds=2)
            why = read_json(bench.out / "seed0" / "foster-3.failed.json")["error"]
            assert f"holds other sequences than {made} is of" in why
        shutil.rmtree(one)
        shutil.move(bench.out.parent / "first", one)
    assert bench(seeds=2)["rows"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"../x": {"method": "random"}}, "row '../x' must have a name of letters"),
        ({"x": {"method": "foster", "sequences": 7}}, "'sequences' is the same for all rows"),
    ],
)
def test_rows_that_no_bench_can_have(bench, extra, words):
    with pytest.raises(InputError, match=words):
        bench(extra=extra)


@pytest.mark.parametrize("name", ["dataset.json", "config.json", "results.csv", "results.png", "seed0/random-3.json"])
def test_a_benchmark_goes_into_no_folder_of_other_things(bench, name):
    (bench.out / "seed0").mkdir(parents=True)
    (bench.out / name).write_text("{}")
    with pytest.raises(InputError, match=f"out: holds {name}, which is of no benchmark; give another --out"):
        bench()
    assert [path.name for path in bench.out.rglob("*") if path.is_file()] == [Path(name).name]


def test_a_benchmark_of_something_else(bench):
    bench.out.mkdir()
    write_json(bench.out / "bench.json", {"data_fingerprint": "x"})
    with pytest.raises(InputError, match=r"bench\.json: is of no benchmark of foster"):
        bench()


def test_a_benchmark_writes_over_no_folder_of_others(bench):
    bench(methods="random-length", extra=None)
    mine = bench.out / "seed0" / "foster-3"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    result = bench()
    assert "foster" not in result["rows"]
    assert "foster-3: holds thesis.txt, which foster did not write" in result["about"]["failed"]["seed0/foster-3"]
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_run_that_fails_says_so_and_leaves_the_others_alone(bench):
    broken = {"method": "foster", "steps": 2, "length": 6, "model_lr": 1e10}
    said = []
    result = bench(extra={**EXTRA, "broken": broken}, seeds=2, say=said.append)
    assert list(result["rows"]) == ["popularity", "random", "foster", "full"]
    failed = result["about"]["failed"]
    assert list(failed) == ["seed0/broken-3", "seed1/broken-3"]
    assert all("distill foster: diverged, gap is not finite at step 1" in error for error in failed.values())
    assert sum("broken-3" in line and "failed: distill" in line for line in said) == 2
    assert "**No result** of seed0/broken-3: distill foster: diverged" in (bench.out / "results.md").read_text()
    assert json.loads((bench.out / "results.json").read_text())["about"]["failed"] == failed
    assert not list(bench.out.glob("seed0/broken-3*/")) and not (bench.out / "seed0" / "broken-3.json").exists()
    # It is tried again, here with options that work.
    again = bench(extra={**EXTRA, "broken": EXTRA["foster"]}, seeds=2)
    assert again["about"]["failed"] == {} and again["rows"]["broken"]["seeds"] == [0, 1]
    assert again["rows"]["foster"] == result["rows"]["foster"]
    assert not list(bench.out.glob("*/*.failed.json"))


def test_a_teacher_that_diverges_takes_no_other_row_with_it(bench):
    recipe = Recipe(**{**vars(bench.recipe), "train": TrainOptions(steps=10, eval_every=5, lr=1e10)})
    result = bench(recipe=recipe)
    assert list(result["rows"]) == ["popularity", "random"]
    failed = result["about"]["failed"]
    assert "training diverged" in failed["seed0/full"]
    assert failed["seed0/foster-3"] == "needs the teacher of seed 0, which failed"


def test_a_recipe_with_which_students_diverge_is_no_candidate(bench, monkeypatch):
    broken = {**RECIPES, "soft": RECIPES["soft"].model_copy(update={"lr": 1e10, "warmup": 0})}
    monkeypatch.setattr(training, "RECIPES", broken)
    said = []
    result = bench(methods="random", extra=None, say=said.append)
    assert result["rows"]["random"]["recipes"] == ["hard"] and not result["about"]["failed"]
    assert any("random-3" in line and "with the recipe for soft labels: training diverged" in line for line in said)


def test_a_benchmark_goes_on_beside_a_teacher_that_was_there(bench, log, tiny_encoder):
    recipe = vars(bench.recipe)
    pretrain(log, bench.out / "seed0" / "teacher", **recipe, engine=Engine("cpu"))
    (bench.out / "log.txt").write_text("what a shell wrote")
    assert bench(methods="random-length", extra=None)["rows"]["full"]["ndcg@10"]


def test_a_reference_is_one_of_the_rows(bench):
    result = bench(methods="random-length", extra=None, reference="random-length")
    assert result["rows"]["random"]["minus_reference"] and result["about"]["reference"] == "random-length"
    assert "minus random-length" in (bench.out / "results.md").read_text()
    with pytest.raises(InputError, match=r"--reference: no row 'fostr' \(did you mean 'foster'\?\); name one of"):
        bench(reference="fostr")


def test_variants_are_rows_with_options_of_their_own(bench):
    extra = {**EXTRA, "no-reset": {**EXTRA["foster"], "reset_every": 0}}
    assert list(bench(methods="random", extra=extra)["rows"]) == ["popularity", "random", "foster", "no-reset", "full"]
    config = json.loads((bench.out / "seed0" / "no-reset-3" / "config.json").read_text())
    assert config["info"]["options"]["reset_every"] == 0


def test_students_of_methods_whose_papers_do_so_start_from_a_checkpoint_too(bench, monkeypatch):
    bench(methods="random-length", extra=None)
    monkeypatch.setattr(plan, "CHECKPOINT_STARTS", frozenset({"foster"}))
    original, starts = training.train, []

    def watched(*arguments, **rest):
        starts.append(rest["start"])
        return original(*arguments, **rest)

    monkeypatch.setattr(training, "train", watched)
    rows = bench(methods="random-length,foster")["rows"]
    assert list(rows) == [
        *("popularity", "random", "random+checkpoint", "random-length", "foster", "foster+checkpoint"),
        *("full", "checkpoint"),
    ]
    assert rows["foster+checkpoint"]["make_seconds"] == rows["foster"]["make_seconds"]
    # random and random-length were there already, from public starts
    assert [start is None for start in starts] == [False, False, True, True, False, False]
    trajectory = Trajectory(bench.out / "seed0" / "teacher")
    states = [trajectory.state(which) for which in range(1, len(trajectory))]
    assert any(all(torch.equal(state[name], starts[0][name]) for name in state) for state in states)


@pytest.mark.parametrize(
    ("names", "extra", "message"),
    [
        (["random", "fostr"], {}, "unknown method 'fostr' .did you mean 'foster'?.; known: popularity, random"),
        ([], {"a": {"method": "foster", "resets": 0}}, "row 'a': unknown option 'resets'"),
        ([], {"a": {"reset_every": 0}}, "row 'a' must hold 'method'"),
        ([], {"a": {"method": "random", "steps": 0}}, "random takes no options, but 'steps'"),
    ],
)
def test_rows_that_cannot_be(names, extra, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        variants_of(names, extra)


def test_all_methods_have_their_place():
    assert [variant.name for variant in variants_of(METHODS, {})] == list(METHODS)


@pytest.mark.parametrize("budgets", ["0", "61", "many", "3,-1"])
def test_budgets_that_cannot_be(bench, budgets):
    with pytest.raises(InputError, match="--budgets"):
        bench(budgets=budgets)
    assert not (bench.out / "seed0").exists()


def test_another_benchmark_is_not_mixed_in(bench):
    bench(methods="random")
    with pytest.raises(InputError, match="another 'train'"):
        bench(recipe=Recipe(**{**vars(bench.recipe), "train": TrainOptions(steps=11)}))
    with pytest.raises(InputError, match="another 'student_steps'"):
        bench(steps=7)


def test_a_benchmark_from_before_an_option_goes_on(bench):
    bench(methods="random")
    for path in (bench.out / "bench.json", bench.out / "seed0" / "teacher" / "config.json"):
        content = read_json(path)
        del content["model"]["backbone"]
        write_json(path, content)
    seal(bench.out / "seed0" / "teacher")
    seal(bench.out)
    for path in (bench.out / "seed0").glob("*.json"):
        rewritten(bench.out, path)
    (bench.out / "seed0" / "full.json").unlink()
    bench()
    path = bench.out / "seed0" / "foster-3" / "config.json"
    content = read_json(path)
    del content["info"]["options"]["checkpoints"]
    write_json(path, content)
    seal(path.parent)
    students = {"gru": {"backbone": "gru4rec"}}
    rows = bench(students=students)["rows"]
    path = bench.out / "seed0" / "foster@gru-3.json"
    content = read_json(path)
    del content["student_options"]["model"]["lm_lr_ratio"]
    rewritten(bench.out, path, student_options=content["student_options"])
    assert bench(students=students)["rows"] == rows


def test_a_row_whose_options_changed_is_not_taken_for_the_old_one(bench):
    bench()
    with pytest.raises(InputError, match="row 'foster' was made with other options"):
        bench(extra={"foster": {**EXTRA["foster"], "steps": 3}})
    (bench.out / "seed0" / "foster-3.json").unlink()  # as if it had been cut off before the student was finished
    with pytest.raises(InputError, match="row 'foster' was made with other options"):
        bench(extra={"foster": {**EXTRA["foster"], "steps": 3}})


def test_methods_that_need_frozen_vectors_are_refused_at_once(bench):
    tuned = Recipe(**{**vars(bench.recipe), "model": ModelOptions(dim=8, heads=1, finetune="all")})
    with pytest.raises(InputError, match=r"dc works on frozen text vectors only.*without dc, farzi"):
        bench(methods="dc,farzi,foster", recipe=tuned)
    assert not bench.out.exists()


def test_methods_that_do_not_work_on_the_models_are_left_out_unless_they_are_named(bench, monkeypatch):
    made, said = [], []
    monkeypatch.setattr(benches, "make_all", lambda plan, *rest: made.extend(plan.variants))
    monkeypatch.setattr(benches.BenchFolder, "records", lambda self: ([], {}))
    shape = ModelOptions(dim=8, heads=1, backbone="gru4rec", finetune="all")
    bench(methods=None, recipe=Recipe(**{**vars(bench.recipe), "model": shape}), say=said.append)
    names = {variant.name for variant in made}
    without = {"dealrec", "goracs", "dc", "mtt", "farzi", "td3"}
    assert names == set(METHODS) - without
    assert said[0].startswith("without dealrec, goracs, dc, mtt, farzi, td3: ")
    made.clear()
    shutil.rmtree(bench.out)
    bench(methods=None)
    assert {variant.name for variant in made} == set(METHODS)


def test_methods_that_need_sasrec_are_refused_at_once(bench):
    other = Recipe(**{**vars(bench.recipe), "model": ModelOptions(dim=8, backbone="gru4rec")})
    with pytest.raises(InputError, match=r"dealrec works on SASRec only.*without dealrec, goracs"):
        bench(methods="goracs,dealrec,random-length", recipe=other)
    assert not bench.out.exists()


def test_changed_options_are_refused_before_anything_is_made(bench):
    bench()
    changed = {"more": {**EXTRA["foster"], "lr": 0.1}, "foster": {**EXTRA["foster"], "steps": 3}}
    with pytest.raises(InputError, match="row 'foster' was made with other options"):
        bench(methods="random-length", extra=changed)
    assert not list((bench.out / "seed0").glob("random-length*")) and not list((bench.out / "seed0").glob("more*"))


def test_other_students_train_on_the_same_artefacts_and_on_the_log(bench, monkeypatch):
    students = {"gru": {"backbone": "gru4rec"}, "wide": {"dim": 16}}
    bench()
    original, trained = training.train, []

    def watched(source, **rest):
        trained.append((isinstance(source, Dataset), rest["model"].backbone, rest["model"].dim))
        return original(source, **rest)

    monkeypatch.setattr(training, "train", watched)
    rows = bench(students=students)["rows"]
    own = ["popularity", "random", "foster", "full"]
    assert list(rows) == own + [f"{name}@{student}" for student in students for name in own[1:]]
    shapes = (("gru4rec", 8), ("sasrec", 16))
    assert sorted(set(trained)) == [(on_log, *shape) for on_log in (False, True) for shape in shapes]
    assert sum(on_log for on_log, *_ in trained) == 2
    assert rows["full@gru"]["of_full"] == 1.0 and rows["full@gru"]["ndcg@10"] != rows["full"]["ndcg@10"]
    assert rows["foster@gru"]["bytes"] == rows["foster"]["bytes"]
    trained.clear()
    assert bench(students=students)["rows"] == rows and not trained
    with pytest.raises(InputError, match="student 'gru' had other options"):
        bench(students={"gru": {"backbone": "mean"}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gru": {"bakbone": "gru4rec"}}, "s.yaml: student 'gru': unknown option 'bakbone' .did you mean 'backbone'"),
        ({"gru": {}}, "s.yaml: student 'gru' must have a name"),
        ({"a/b": {"dim": 8}}, "student 'a/b' must have a name of letters"),
        ({"odd": {"dim": 7}}, "student 'odd': dim 7 is no multiple of heads 2"),
    ],
)
def test_students_that_cannot_be(given, message):
    recipe = Recipe(EncoderOptions(), ModelOptions(), TrainOptions(), TeacherOptions())
    with pytest.raises(InputError, match=message):
        students_of(given, recipe, "s.yaml")


def test_new_items_are_never_trained_on_and_ranked_at_the_end(log, bench):
    result = bench(new_items=0.1)
    about, rows = result["about"], result["rows"]
    assert about["new_items"] == 4 and about["items"] == log.n_items - 4 and about["new_item_users"] > 10
    assert len(Catalogue.read(bench.out / "seed0" / "teacher")) == log.n_items - 4
    for name in ("random", "foster", "full"):
        assert 0 <= rows[name]["new_recall@10"] <= 1, name
    assert "new_recall@10" not in rows["popularity"]
    with pytest.raises(InputError, match="another 'data_fingerprint'"):
        bench()


def test_processes_divide_the_runs(log, bench, tmp_path, tiny_encoder):
    alone = bench(methods="random-length", extra=None, seeds=2)
    log.save(tmp_path / "data")
    arguments = [
        *("bench", tmp_path / "data", "--out", tmp_path / "divided", "--methods", "random-length", "--seeds", 2),
        *("--budgets", 3, "--student-steps", 6, "--encoder", tiny_encoder, "--dim", 8, "--layers", 1, "--heads", 1),
        *("--max-length", 8, "--steps", 10, "--eval-every", 5, "--checkpoints", 4),
        *("--device", "cpu", "--json"),
    ]
    done = in_processes(2, "-m", "foster", *arguments)
    divided = json.loads(done.stdout)
    assert divided["about"]["seeds"] == [0, 1]
    for name, row in alone["rows"].items():
        assert divided["rows"][name]["ndcg@10"] == pytest.approx(row["ndcg@10"], rel=1e-4), name
    # Each run was made once, by one of the two.
    assert done.stderr.count("NDCG@10") == 8


def test_ranks_give_the_metrics(bench):
    bench(methods="random", extra=None)
    record = json.loads(Path(bench.out / "seed0" / "random-3.json").read_text())
    assert metrics_of(np.load(bench.out / record["ranks"])) == record["metrics"]


def test_the_ablations_are_rows_that_can_be():
    path = Path(__file__).parents[2] / "benchmarks" / "ablations.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = variants_of(["foster"], content, str(path))
    defaults = next(row.options for row in rows if row.name == "foster")
    changed = [row for row in rows if row.method == "foster" and row.name != "foster"]
    assert {row.name for row in changed} == set(content)
    assert all(row.options != defaults for row in changed)


def test_a_dry_run_sums_what_is_missing_and_leaves_no_trace(log, bench, monkeypatch):
    options = BenchOptions(methods="random-length,soft-label,dm,foster", seeds=2, budgets="3", student_steps=6)
    students = {"gru": {"backbone": "gru4rec"}}

    def estimated():
        rest = {"recipe": bench.recipe, "extra": EXTRA, "students": students, "engine": Engine("cpu")}
        return trials.estimate_bench(log, bench.out, options=options, **rest)

    # A step of a student takes a second, a distillation 100, the full log 10, and the rest nothing.
    monkeypatch.setattr(trials, "seconds_a_step", lambda *rest, **more: 1.0)
    monkeypatch.setattr(trials, "training_parts", lambda *rest: {"all": (10.0, 5.0)})
    distillation = trials.distillation_parts
    monkeypatch.setattr(trials, "distillation_parts", lambda *rest: ({"all": (100.0, 50.0)}, distillation(*rest)[1]))
    monkeypatch.setattr(trials, "untrained", lambda *rest: (untrained(*rest)[0], 0.0))
    monkeypatch.setattr(trials, "ranking_seconds", lambda *rest: 0.0)
    monkeypatch.setattr(trials, "timed", lambda work: (work(), 0.0))
    found = estimated()
    assert not bench.out.exists()
    pair = 6 + 6  # steps of the two recipes
    wanted = {"popularity": 0, "random": pair, "random-length": pair, "soft-label": pair, "dm": 100 + pair}
    wanted |= {"foster": 100 + pair, "full": 10}
    wanted |= {f"{name}@gru": 10 if name == "full" else pair for name in wanted if name != "popularity"}
    assert found.parts == {f"row {name}": 2 * seconds for name, seconds in wanted.items()}
    assert found.seconds == sum(found.parts.values()) and found.least_seconds < found.seconds
    bench(methods="random-length,soft-label,dm,foster", students=students)  # one of the two seeds
    left = estimated()
    assert left.seconds == found.seconds / 2 and left.disk_bytes == found.disk_bytes / 2
    taken = sum(path.stat().st_size for path in (bench.out / "seed0").rglob("*") if path.is_file())
    assert taken / 1.5 < left.disk_bytes < 1.5 * taken  # records of runs, large here, are not counted


def test_a_dry_run_in_bytes_tries_as_many_real_histories_as_fit(log, bench, monkeypatch):
    seen = {"random": [], "soft-label": []}
    original = trials.student_source

    def watched(sequences, *rest):
        seen[sequences.method].append(len(sequences))
        return original(sequences, *rest)

    monkeypatch.setattr(trials, "student_source", watched)
    for method, size in {"random": 1_570, "soft-label": 172_000}.items():
        options = BenchOptions(methods=method, seeds=1, bytes=str(size), student_steps=6)
        trials.estimate_bench(log, bench.out, options=options, recipe=bench.recipe, engine=Engine("cpu"))
        bench(method, extra=None, budgets=None, sizes=str(size))
        made = len(Condensed.read(bench.out / "seed0" / f"{method}-{size}B"))
        assert 1 < made < 60, (method, size)
        assert seen[method] == pytest.approx([made] * 3, rel=0.1)  # of each recipe
        shutil.rmtree(bench.out)
        for counts in seen.values():  # 'random' is a row of every benchmark
            counts.clear()


def test_a_dry_run_of_tuned_models_counts_what_they_learn_frozen_first(log, bench, monkeypatch):
    def never(*rest, **more):
        raise AssertionError("a dry run trains no model of public texts")

    monkeypatch.setattr(imitation, "fit", never)
    monkeypatch.setattr(trials, "seconds_a_step", lambda *rest, **more: 1.0)
    monkeypatch.setattr(trials, "training_parts", lambda *rest: {"all": (10.0, 5.0)})
    monkeypatch.setattr(trials, "untrained", lambda *rest: (untrained(*rest)[0], 0.0))
    monkeypatch.setattr(trials, "ranking_seconds", lambda *rest: 0.0)
    monkeypatch.setattr(trials, "timed", lambda work: (work(), 0.0))
    tuned = Recipe(**{**vars(bench.recipe), "model": ModelOptions(dim=8, heads=1, finetune="top:1")})
    options = BenchOptions(methods="random,soft-label", seeds=1, budgets="3", student_steps=6)
    found = trials.estimate_bench(log, bench.out, options=options, recipe=tuned, engine=Engine("cpu"))
    # Frozen first, in half of the steps of the stored recipe.
    assert found.parts["row random"] == 2 * (HARD_LABELS.total_steps // 2 + 6)
    assert found.parts["row soft-label"] == 10 + 2 * (STUDENT.total_steps // 2 + 6)


def test_students_of_hard_labels_may_stop_early(bench, monkeypatch):
    original, seen = training.train, {}

    def watched(sequences, **rest):
        seen.setdefault(sequences.codes is None, []).append(rest["train"].patience)
        return original(sequences, **rest)

    monkeypatch.setattr(training, "train", watched)
    bench()
    assert seen == {False: [0, RECIPES["hard"].patience], True: [training.EARLY, RECIPES["hard"].patience]}
