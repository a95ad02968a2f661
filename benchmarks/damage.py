#!/usr/bin/env python3
"""Damage folders on purpose and read them: none may be used without a word, and none may end in a traceback.

    python benchmarks/damage.py                      # 6,600 cases
    python benchmarks/damage.py --cases 300 --seed 1

Tiny folders of every kind are made with two seeds; each case damages a copy of one of them and reads it through the
public readers, all in one process. Studies and benchmarks are read as ``tune`` and ``bench`` do that go on with them,
and as ``inspect`` does; damage of a study's database is what another program would see in its trials.

There are three sorts of cases:

- damage, as disks, copies and mistakes make it: flipped bits, cut, longer or missing files, files of another seed,
  edited JSON, files too many, links, hostile manifests. Each must be refused with an InputError of one line.
- wrong values under a manifest that was computed again, as who edits a folder could do it: no value of its type or
  range, unknown or missing fields, tensors of other names, types or shapes, numbers that are not finite, headers that
  declare what is not there. Each must be refused, too.
- any change under such a manifest, flipped bits in particular. Many of these are right folders of other content, which
  nobody can tell; they are counted. None may end in a traceback.

Exit status 1 if a folder of the first two sorts was read, or a traceback was seen.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import random
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file

import foster
import foster.tuning.results
from foster.artefacts import CONFIG_NAME, artefact_kind, new_folder, write_metrics
from foster.audit.audit import Audit, attacked, audit
from foster.audit.membership import random_halves
from foster.audit.options import AuditOptions
from foster.audit.shadows import RUNS
from foster.bench.bench import run_bench
from foster.bench.folder import BenchFolder
from foster.bench.options import BenchOptions
from foster.bench.plan import plan_of
from foster.bench.rows import Recipe
from foster.condensed.contexts import label_windows
from foster.condensed.labels import compact_item_map, with_item_map, with_soft_labels
from foster.condensed.sequences import Condensed
from foster.coresets.select import select
from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.errors import InputError
from foster.inspection.inspect import look_at
from foster.manifest import MANIFEST_NAME, seal
from foster.models.item_tower import FrozenFeatures, Whitening
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.serving.handed_on import write_jsonl
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.trajectory import Recorder, Trajectory
from foster.tuning.folder import DATABASE, study_lock
from foster.tuning.options import TuneOptions
from foster.tuning.search import open_study, quiet

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from synthetic_log import synthetic_log  # noqa: E402
from tiny_encoder import build_tiny_encoder  # noqa: E402

ITEMS, SECONDS, SPARE = 30, 60, 2**33
GROWING = ("study", "bench")
BENCHES: dict[str, BenchFolder] = {}
"""What reads the benchmarks, by the names of their places."""
Change = Callable[[random.Random, Path, Path], bool]
"""Damages a folder; gets a generator, the folder and one of another seed, and says whether anything is different."""


# The folders.


def a_model(seed: int, **options: Any) -> TextRecommender:
    """Return a model on random features."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(ITEMS, 12, generator=generator)
    popularity = options.pop("popularity", None)
    whitening = Whitening.fit(vectors)
    features = whitening(vectors)
    if popularity:
        features = torch.cat([features, torch.zeros(ITEMS, 1)], 1)
    catalogue = Catalogue(
        [f"i{n}" for n in range(ITEMS)],
        [f"thing {n} of {seed}" for n in range(ITEMS)],
        [0.0] * ITEMS if popularity else None,
    )
    shape = ModelOptions(**{"dim": 8, "layers": 1, "max_length": 10, "adapter": "linear", **options})
    torch.manual_seed(seed)
    model = TextRecommender(catalogue, EncoderOptions(words=0), shape, FrozenFeatures.of(features), whitening).eval()
    model.origin = {"data_fingerprint": f"{seed:064x}", "from_real_data": "all weights"}
    return model


def of_training(seed: int, **rest: Any) -> dict[str, Any]:
    fit = {"steps": 3, "best_step": 3, "best_ndcg": 0.1, "history": [], "precision": "float32"}
    return {"training": {"steps": 3, "lr": 0.003, "precision": "auto"}, "seed": seed, "fit": fit, **rest}


def a_dataset(out: Path, seed: int, **options: Any) -> Dataset:
    rng = random.Random(seed)
    log = [(f"u{u}", f"i{rng.randrange(ITEMS)}", 7 * u + 40 * t) for u in range(12) for t in range(6)]
    rng.shuffle(log)
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "title": [f"thing {n}" for n in range(ITEMS)]})
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = Dataset.prepare(frame, items, k_core=0, **options)
    data.save(out)
    return data


def sequences(seed: int, kind: str, soft: bool) -> Condensed:
    model = a_model(seed, adapter="moe" if kind == "distilled" else "linear")
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(ITEMS, (4, 8, 3), generator=generator)
    info = {"data_fingerprint": f"{seed:064x}", "seed": seed, "from_real_data": "histories", "kept_step": 10}
    plain = Condensed(
        kind, "foster", items, torch.full(items.shape, 1 / 3), None, None, model.catalogue,
        encoder=model.encoder, model=model.options, info=info,
    )  # fmt: skip
    return with_soft_labels(plain, model, label_windows(8, 5), generator).rounded() if soft else plain


def packed(seed: int, bits: int) -> Condensed:
    """Return sequences as ``--bytes`` stores them: one item a step, labels of two bits, and a map of one or two."""
    model = a_model(seed, adapter="moe" if bits == 2 else "linear")
    plain = sequences(seed, "distilled", soft=False)
    items = plain.items[..., :1]
    plain = replace(plain, items=items, weights=torch.ones(items.shape), model=model.options)
    return with_soft_labels(plain, model, label_windows(8, 8), bits=2, adapter_bits=bits).rounded()


def written(seed: int) -> Condensed:
    """Return what ``--bytes`` stores where it is few: histories that repeat one another, and a map of one bit."""
    model = a_model(seed, adapter="linear")
    plain = sequences(seed, "distilled", soft=False)
    items = plain.items[..., :1].repeat(20, 1, 1)
    plain = replace(plain, items=items, weights=torch.ones(items.shape), model=model.options)
    return with_item_map(plain, compact_item_map(model), 1).rounded()


def an_audit(data: Dataset, seed: int) -> Audit:
    """Return an audit with shadows, whose scores are random."""
    histories = list(data.training_histories()[:3])
    model = a_model(seed)
    info = {"data_fingerprint": data.info.fingerprint, "from_real_data": "histories"}
    coreset = Condensed.of_histories(
        histories, 10, "random", data.catalogue, encoder=model.encoder, model=model.options, info=info
    )
    found = audit(coreset, data, options=AuditOptions(shadows=0), seed=seed)
    rng = np.random.default_rng(seed)
    members = random_halves(12, 3, seed)
    scores = {name: rng.random(members.shape) for name in ("sequences", "student")} | {
        RUNS: rng.integers(0, 9, (3, 12))
    }
    held_out, membership = attacked(scores, members, seed)
    return replace(found, about={**found.about, "shadows": 3}, held_out=held_out, membership=membership)


def a_teacher(out: Path, seed: int) -> None:
    model = a_model(seed, adapter="moe", ids=True)
    with new_folder(out) as folder:
        record = Recorder(folder, [0, 2, 3])
        for step in (0, 2, 3):
            record(step, model)
        model.write_to(folder, of_training(seed, kind="teacher"))
        write_metrics(folder, [{"step": 3, "loss": 1.5, "ndcg@10": 0.1}, {"steps": 3, "seconds": 0.5}])


def a_log(seed: int) -> Dataset:
    return Dataset.prepare(pl.DataFrame(synthetic_log(users=40, seed=seed)), k_core=0)


def a_study(out: Path, seed: int, encoder: EncoderOptions) -> None:
    """Make a study of three trials, of which one was trained on the full log; none of its pictures."""
    log, shape = a_log(seed), ModelOptions(dim=8, layers=1, max_length=8, adapter="linear")
    coreset = select("random", log, 3, encoder=encoder, model=shape)
    searched = {"lr": [0.001, 0.003, 0.01], "dropout": [0.0, 0.1], "steps": [4]}
    foster.tuning.results.drawable = lambda frame: False
    recipe, options = TrainOptions(eval_every=2), TuneOptions(trials=3, retrain=1)
    foster.tune(coreset, out, validation=log, space=searched, train=recipe, options=options, seed=seed)


def a_bench(out: Path, seed: int, encoder: EncoderOptions) -> BenchFolder:
    """Make a benchmark of rows that need no teacher; return what reads it again."""
    log = a_log(seed)
    recipe = Recipe(encoder, ModelOptions(dim=8, layers=1, max_length=8), TrainOptions(steps=2), TeacherOptions())
    options = BenchOptions(methods=("popularity", "random"), seeds=2, budgets=("3",), student_steps=2)
    run_bench(log, out, recipe=recipe, options=options)
    return BenchFolder(out, plan_of(log, recipe=recipe, options=options))


def make_growing(root: Path, seed: int) -> None:
    """Make the folders that grow, a study and a benchmark."""
    encoder = EncoderOptions(encoder=str(build_tiny_encoder(root.parent / f"encoder-{seed}")), words=0)
    a_study(root / "study", seed, encoder)
    BENCHES[root.name] = a_bench(root / "bench", seed, encoder)


def make(root: Path, seed: int) -> None:
    """Make a folder of every kind that is written once, two of most."""
    data = a_dataset(root / "dataset", seed)
    a_dataset(root / "dataset-time", seed, split="time:0.5:0.8", targets="successive", popularity=True)
    sequences(seed, "distilled", soft=True).save(root / "distilled")
    sequences(seed, "distilled", soft=False).save(root / "distilled-hard")
    sequences(seed, "coreset", soft=True).save(root / "coreset")
    packed(seed, 2).save(root / "distilled-packed")
    packed(seed, 1).save(root / "distilled-packed-linear")
    written(seed).save(root / "distilled-written")
    an_audit(data, seed).save(root / "audit")
    with new_folder(root / "handed-on") as folder:
        write_jsonl(sequences(seed, "distilled", soft=False), folder)
    a_model(seed).save_pretrained(root / "model", extra=of_training(seed))
    a_model(seed, popularity=True, backbone="gru4rec").save_pretrained(root / "model-popular", extra=of_training(seed))
    a_teacher(root / "teacher", seed)


def read(folder: Path) -> None:
    """Read all of a folder as the verbs do."""
    kind = folder.name.split("-")[0]
    if kind == "dataset":
        Dataset.read(folder).parts()
    elif kind in ("distilled", "coreset"):
        Condensed.read(folder)
    elif kind in ("audit", "study", "bench"):
        look_at(folder).sections()
        if kind == "study":
            artefact_kind(folder)
            with quiet(), study_lock(folder), open_study(folder) as study:
                study.get_trials(deepcopy=False)
        if kind == "bench":
            bench = BenchFolder(folder, BENCHES["0"].plan)
            bench.claim(Engine("cpu"))
            if missing := bench.missing():
                raise InputError(f"{folder}: {missing[0].name} is made again")
            for record in bench.records()[0]:
                bench.ranks(record)
    elif kind == "handed":  # what others read, and push hands on
        artefact_kind(folder)
    else:
        model = TextRecommender.from_pretrained(folder)
        model.recommend([["i1", "i2"]], 3)
        if kind == "teacher":
            trajectory = Trajectory(folder)
            for which in range(len(trajectory)):
                model.load_trained_state(trajectory.state(which))


# Damage: the manifest stays.


def files_of(folder: Path, *endings: str) -> list[Path]:
    paths = [p for p in folder.rglob("*") if p.is_file() and (not endings or p.suffix in endings)]
    if folder.name == "study":  # models have manifests of their own, and a database a sort of damage
        paths = [p for p in paths if p.parent == folder and p.name != DATABASE]
    if folder.name == "bench":
        paths = [p for p in paths if len(p.relative_to(folder).parts) < 3]
    return sorted(paths)


def damaged_database(rng: random.Random, folder: Path, other: Path) -> bool:
    """Damage the database of a study, or take that of another, such that its trials are others to who reads them."""
    if folder.name != "study":
        return flipped_bit(rng, folder, other)
    path = folder / DATABASE
    before, content = trials_in(path), bytearray(path.read_bytes())
    kind = rng.choice(["bit", "bit", "bits", "cut", "zeroed", "other", "removed", "value", "text"])
    start = rng.randrange(len(content))
    if kind in ("bit", "bits"):
        for _ in range(1 if kind == "bit" else 20):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[start:]
    elif kind == "zeroed":
        content[start : start + 512] = bytes(len(content[start : start + 512]))
    elif kind == "text":  # where something is written
        at = content.find(rng.choice([b"COMPLETE", b'"lr"', b"sha256", b"seconds", b"dropout", b"worker"]))
        content[at + 2] ^= 1
    path.write_bytes((other / DATABASE).read_bytes() if kind == "other" else content)
    if kind == "value":
        with closing(sqlite3.connect(path)) as database:
            database.execute(rng.choice(DATABASE_CHANGES), [rng.randrange(1, 4)])
            database.commit()
    elif kind == "removed":
        path.unlink()
        return True
    return trials_in(path) != before


DATABASE_CHANGES = [
    "update trial_values set value = value + 0.01 where trial_id = ?",
    "update trial_params set param_value = 1 - param_value where trial_id = ?",
    "update trial_intermediate_values set intermediate_value = 0.5 where trial_id = ?",
    "update trials set state = 'RUNNING' where trial_id = ?",
    "update trial_user_attributes set value_json = '1' where trial_id = ?",
    "delete from trials where trial_id = ?",
    "update trials set number = number + 5 where trial_id = ?",
]


def trials_in(path: Path) -> Any:
    """Return what a database says of trials, or None where it cannot be read."""
    tables = ("trials", "trial_values", "trial_params", "trial_intermediate_values", "trial_user_attributes")
    columns = (
        "number, state", "trial_id, value", "trial_id, param_name, param_value",
        "trial_id, step, intermediate_value", "trial_id, key, value_json",
    )  # fmt: skip
    try:
        with closing(sqlite3.connect(path)) as database:
            database.text_factory = bytes
            queries = zip(columns, (*tables, "study_user_attributes"), strict=False)
            rows = [sorted(database.execute(f"select {names} from {table}").fetchall()) for names, table in queries]
            return [*rows, sorted(database.execute("select key, value_json from study_user_attributes").fetchall())]
    except (sqlite3.Error, TypeError):
        return None


def flipped_bit(rng: random.Random, folder: Path, other: Path, *endings: str) -> bool:
    path = rng.choice(files_of(folder, *endings))
    content = bytearray(path.read_bytes())
    if not content:
        return False
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return True


def cut(rng: random.Random, folder: Path, other: Path) -> bool:
    path = rng.choice(files_of(folder))
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))] if content else b"x")
    return True


def longer(rng: random.Random, folder: Path, other: Path) -> bool:
    with rng.choice(files_of(folder)).open("ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 50)))
    return True


def zeroed(rng: random.Random, folder: Path, other: Path) -> bool:
    path = rng.choice(files_of(folder))
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    content[start : start + 64] = bytes(len(content[start : start + 64]))
    changed = bytes(content) != path.read_bytes()
    path.write_bytes(content)
    return changed


def removed(rng: random.Random, folder: Path, other: Path) -> bool:
    # What making took is in the records that are there; without that file the next one makes its sequences again.
    rng.choice([path for path in files_of(folder) if not path.name.endswith(".made.json")]).unlink()
    return True


def exchanged(rng: random.Random, folder: Path, other: Path) -> bool:
    """Exchange two files of the folder."""
    one, two = rng.sample(files_of(folder), 2)
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b), two.write_bytes(a)
    return a != b


def of_another(rng: random.Random, folder: Path, other: Path) -> bool:
    """Take a file of another seed, perhaps the manifest."""
    path = rng.choice(files_of(folder))
    content = (other / path.relative_to(folder)).read_bytes()
    changed = content != path.read_bytes()
    path.write_bytes(content)
    return changed


def half_of_another(rng: random.Random, folder: Path, other: Path) -> bool:
    """Take several files of another seed with its manifest: what a reader of a folder in the middle of a copy sees."""
    files = files_of(folder)
    apart = [p for p in files if (other / p.relative_to(folder)).read_bytes() != p.read_bytes()]
    chosen = rng.sample(apart, rng.randrange(1, len(apart)))
    for path in chosen:
        shutil.copyfile(other / path.relative_to(folder), path)
    return True


def edited(rng: random.Random, folder: Path, other: Path) -> bool:
    path = rng.choice(files_of(folder, ".json"))
    content = json.loads(path.read_text())
    holder, key = rng.choice(places_in(content))
    holder[key] = any_value(rng, holder[key])
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    changed = text != path.read_text()
    path.write_text(text)
    return changed


def linked(rng: random.Random, folder: Path, other: Path) -> bool:
    """Put a link, to the very file or elsewhere, in a file's place; or something that is no file."""
    path = rng.choice(files_of(folder))
    kind = rng.choice(["copy", "nowhere", "loop", "pipe", "folder", "other", "device"])
    copy = folder.parent / f"{folder.name}-copy"
    shutil.copyfile(path, copy)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"copy": copy, "nowhere": "/nonexistent/x", "loop": path, "device": "/dev/zero"}
        path.symlink_to(targets.get(kind, other / path.relative_to(folder)))
    return True


def linked_trajectory(rng: random.Random, folder: Path, other: Path) -> bool:
    if not (folder / "trajectory").is_dir():
        return linked(rng, folder, other)
    elsewhere = folder.parent / f"{folder.name}-moved"
    shutil.move(folder / "trajectory", elsewhere)
    (folder / "trajectory").symlink_to(elsewhere)
    return True


def too_many(rng: random.Random, folder: Path, other: Path) -> bool:
    name = rng.choice(
        ["popularity.parquet", "trajectory/step_000009.safetensors", "more.json", "x.safetensors", "m.jsonl"]
    )
    if (folder / name).exists() or (folder.name in GROWING and "/" in name):  # others may be in those
        return False
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(rng.choice(files_of(folder)), folder / name)
    return True


def hostile_manifest(rng: random.Random, folder: Path, other: Path) -> bool:
    path = folder / MANIFEST_NAME
    content = json.loads(path.read_text())
    del content["sha256"]
    files = content["files"]
    name = rng.choice(sorted(files))
    if folder.name in GROWING and name not in ("config.json", "results.json", "trials.csv", "bench.json"):
        return False  # foster does not read it
    bad = rng.choice(
        [
            "../x",
            "/etc/passwd",
            "..",
            ".",
            "",
            "a//b",
            "x/../../y",
            "nul\0",
            "a" * 5000,
            "./config.json",
            "\u202e",
            "~/x",
            "C:\\x",
        ]
    )
    size = rng.choice([-1, 10**30, 1.5, True, None, "1", [], 2**63])
    changes: list[Callable[[], Any]] = [
        lambda: files.update({bad: files[name]}),
        lambda: files.update({bad: files.pop(name)}),
        lambda: files[name].update(bytes=size),
        lambda: files[name].update(sha256=rng.choice(["", "0" * 64, None, 5, ["x"]])),
        lambda: files.pop(name),
        lambda: files.update({name: rng.choice([None, [], "x", 3])}),
        lambda: content.update(files=rng.choice([None, [], "x", {}, 3, [["config.json", 1]]])),
        lambda: content.update(format=rng.choice([0, 2, "1", None, [1], 10**40])),
        lambda: content.pop(rng.choice(["files", "format"])),
    ]
    rng.choice(changes)()
    from foster.manifest import _text

    path.write_text(rng.choice([_text, lambda c: json.dumps(c, indent=2)])(content), encoding="utf-8")
    return True


def no_json(rng: random.Random, folder: Path, other: Path) -> bool:
    path = rng.choice(files_of(folder, ".json"))
    path.write_bytes(rng.choice(NO_JSON))
    return True


NO_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"3",
    b'"x"',
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"a": NaN}',
    b'{"kind": 1e999}',
    b'{"kind": "model", "kind": "teacher"}',
    b'{"kind": "\\ud800"}',
    b"9" * 10_000,
    b"\0" * 100,
    b'{"kind": ' + b"1" * 5000 + b"}",
]


# Wrong values; the manifest is computed again.


def places_in(content: Any) -> list[tuple[Any, Any]]:
    """Return every holder and key of a JSON object, at any depth."""
    pairs = (
        list(content.items())
        if isinstance(content, dict)
        else list(enumerate(content))
        if isinstance(content, list)
        else []
    )
    return [(content, key) for key, _ in pairs] + [place for _, value in pairs for place in places_in(value)]


def any_value(rng: random.Random, old: Any) -> Any:
    numbers = [old * 2, old + 1, -old - 1, 0, 10**30, 1e300, 5e-324] if type(old) in (int, float) else [0, 1]
    return rng.choice([*numbers, None, True, "", "x", [], {}, [[]], {"a": 1}, -1, 2**63, 2**64 + 1, "\u202e\n", old])


def statement(folder: Path) -> Path:
    return folder / ("dataset.json" if folder.name.startswith("dataset") else "config.json")


def wrong_statement(rng: random.Random, folder: Path, other: Path) -> bool:
    """Give a field of dataset.json or config.json a value that is none of its type or range."""
    if folder.name == "audit":
        return wrong_results(rng, folder)
    path = statement(folder)
    content = json.loads(path.read_text())
    numbers = [(h, k) for h, k in places_in(content) if type(h[k]) in (int, float) and isinstance(h, dict)]
    texts = [(h, k) for h, k in places_in(content) if isinstance(h[k], str) and isinstance(h, dict)]
    fields = [key for key in content if key not in OPTIONAL]
    kind = rng.choice(["number", "type", "text", "unknown", "deep", "missing", "nan", "doubled", "whole", "size"])
    if kind == "number":  # all our numbers are at least zero
        holder, key = rng.choice(numbers)
        holder[key] = rng.choice([-1, -0.5, -(10**20), -(10**400)])
    elif kind == "type":
        holder, key = rng.choice(numbers)
        holder[key] = rng.choice(["5", [], {}, [1], {"a": 1}])
    elif kind == "text":
        holder, key = rng.choice(texts)
        holder[key] = rng.choice([5, [], {}, True, 1.5])
    elif kind == "unknown":
        content[rng.choice(["colour", "kinds", "", "__class__", "Kind", "auto_map"])] = rng.choice([1, None, "x", {}])
    elif kind == "deep":
        groups = [content[key] for key in ("model", "encoder", "recipe", "info", "fit", "dropped") if content.get(key)]
        rng.choice(groups or [content])["colour"] = 1
    elif kind == "missing":
        del content[rng.choice(fields)]
    elif kind == "whole":
        name = rng.choice(fields)
        none = {} if name == "info" else content[name]  # what is not said of sequences is not stated
        content[name] = rng.choice([value for value in ([], {}, [[1]], {"x": []}, 1e300) if value != none])
    elif kind == "size":
        name = rng.choice([n for n in SIZES if n in content])
        wrong = [content[name] + 1, content[name] - 1, 10**9, 2**62, 10**30, 0]
        content[name] = rng.choice([value for value in wrong if value != content[name]])
    text = json.dumps(content, indent=2)
    if kind == "nan":
        holder, key = rng.choice(numbers)
        holder[key] = rng.choice([math.nan, math.inf, -math.inf])
        text = json.dumps(content, indent=2)
    if kind == "doubled":
        text = text.replace("{", f'{{"{rng.choice(fields)}": 1,', 1)
    path.write_text(text)
    seal(folder)
    return True


def wrong_results(rng: random.Random, folder: Path) -> bool:
    """Do the same to what an audit found; or let it say what cannot be, or what its other files do not say."""
    path = folder / rng.choice(["results.json", "results.json", CONFIG_NAME])
    content = json.loads(path.read_text())
    places = [(h, k) for h, k in places_in(content) if isinstance(h, dict)]
    numbers = [(h, k) for h, k in places if type(h[k]) in (int, float)]
    texts = [(h, k) for h, k in places if isinstance(h[k], str) and (h is not content or k == "paragraph")]
    kind = rng.choice(["number", "type", "text", "unknown", "missing", "doubled", "rows", "stated"])
    holder, key = rng.choice(numbers)
    if kind == "number":
        holder[key] = rng.choice([-1, -0.5, -(10**20), -(10**400)])
    elif kind == "type":
        holder[key] = rng.choice(["5", [], {}, [1], {"a": 1}, None])
    elif kind == "text":
        holder, key = rng.choice(texts)
        holder[key] = rng.choice([5, [], {}, True, 1.5])
    elif kind == "unknown":
        holder[rng.choice(["colour", "", "__class__", "TPR"])] = rng.choice([1, None, "x", {}])
    elif kind == "missing":
        holder, key = rng.choice([(h, k) for h, k in places if h is not content or k != "foster"])
        if key in content.get("tables", {}) or holder is content.get("membership"):
            return False  # any names will do there
        del holder[key]
    elif kind == "rows":
        rows = (
            rng.choice([content["pieces"]["sequences"]["runs"], content["held_out"]]) if "pieces" in content else None
        )
        if rows is None:
            return False
        rng.choice([rows.pop, rows.reverse, rows.clear, lambda: rows.append(rows[0])])()
    elif kind == "stated":
        about = content["about"] if "about" in content else content["info"]
        about[rng.choice(["sequences", "users", "seed", "shadows"])] = rng.randrange(10**6, 10**9)
    text = json.dumps(content, indent=2)
    if kind == "doubled":
        text = text.replace("{", '{"about": 1,' if "about" in content else '{"info": 1,', 1)
    path.write_text(text)
    seal(folder)
    return True


# What is not in every folder of a kind, or says what another value would say as well.
OPTIONAL = {
    "data_fingerprint", "data_split", "from_real_data", "training", "seed", "fit", "known_items", "device", "targets",
    "target_seed", "cut_times", "reading", "popularity", "split", "foster", "kind",
}  # fmt: skip
SIZES = ("users", "items", "interactions", "sequences", "length", "catalogue_items", "feature_width")


def wrong_options(rng: random.Random, folder: Path, other: Path) -> bool:
    """Declare a shape that the weights do not have, a huge one perhaps, or options that there are not."""
    path = statement(folder)
    content = json.loads(path.read_text())
    if "model" not in content:
        return wrong_statement(rng, folder, other)
    model, encoder = content["model"], content["encoder"]
    is_model = content["kind"] in ("model", "teacher")
    if not is_model and (folder / "sequences.safetensors").is_file() and rng.random() < 0.3:
        if folder.name == "distilled-hard":
            return False  # without labels these say nothing
        names = ["label_bits", "adapter_bits", "whole_steps", "adapter_features"]
        name = rng.choice(names[1:] if folder.name == "distilled-written" else names)  # of labels that are not there
        others = {"label_bits": {1, 2, 4}, "adapter_bits": {1, 2, 16}, "whole_steps": {True, False}}
        width = content["adapter_features"]
        content[name] = rng.choice(sorted(others.get(name, {width, 2 * width, width - 1, 1}) - {content[name]}))
        path.write_text(json.dumps(content, indent=2))
        seal(folder)
        return True
    wrong = [
        (model, "dropout", 1.0),
        (model, "dropout", -0.1),
        (model, "backbone", "mamba"),
        (model, "adapter", "none"),
        (model, "dim", 2),
        (model, "dim", "8"),
        (model, "heads", 3),
        (model, "layers", 0),
        (model, "finetune", "everything"),
        (model, "max_length", 10**30),
        (encoder, "pooling", "max"),
        (encoder, "words", 513),
        (encoder, "encoder", ""),
        (encoder, "max_tokens", -4),
        (model, "lm_dtype", "int4"),
    ]
    if is_model:  # of sequences it is the default shape of students, which can be any
        wrong += [
            (model, "dim", 16),
            (model, "dim", 2**16),
            (model, "dim", 10**9),
            (model, "layers", 3),
            (model, "layers", 10**9),
            (model, "max_length", 10**9),
            (model, "backbone", "mean"),
            (model, "adapter", "other"),
            (model, "ids", not model["ids"]),
        ]
    holder, key, value = rng.choice(wrong)
    holder[key] = value
    path.write_text(json.dumps(content, indent=2))
    seal(folder)
    return True


def wrong_tensors(rng: random.Random, folder: Path, other: Path) -> bool:
    """Change names, types, shapes or numbers of tensors such that they are none of ours."""
    files = files_of(folder, ".safetensors")
    if not files:
        return wrong_statement(rng, folder, other)
    path = rng.choice(files)
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    tensor = tensors[name].clone()
    in_checkpoint = path.parent.name == "trajectory"
    kind = rng.choice(
        ["nan", "inf", "type", "shape", "longer", "missing", "more", "range", "renamed", "scalar", "empty"]
    )
    if kind in ("nan", "inf"):
        if not tensor.is_floating_point():
            return False
        tensor.view(-1)[rng.randrange(tensor.numel())] = (
            math.nan if kind == "nan" else rng.choice([math.inf, -math.inf])
        )
        tensors[name] = tensor
    elif kind == "type":
        kinds = [torch.float64, torch.int64, torch.complex64, torch.int8, torch.bool, torch.float8_e4m3fn]
        tensors[name] = tensor.to(rng.choice([k for k in kinds if k != tensor.dtype]))
        if in_checkpoint and name.endswith("seen"):
            return False
    elif kind == "shape":
        tensors[name] = tensor[None].clone() if rng.random() < 0.5 else tensor.reshape(-1, 1).clone()
        if tensors[name].shape == tensor.shape:
            return False
    elif kind == "longer":
        if name.endswith(("ids", "seen")) and not in_checkpoint:
            return False
        tensors[name] = torch.cat([tensor, tensor[:1]])
    elif kind == "missing":
        if name == "draws":  # a folder can be without
            return False
        del tensors[name]
    elif kind == "more":
        tensors[rng.choice(["x", "__metadata", "tower.adapter.more", "adapter.more", "../x", "weightss"])] = tensor
    elif kind == "renamed":
        tensors[f"{name}s"] = tensors.pop(name)
    elif kind == "scalar":
        tensors[name] = tensor.view(-1)[0].clone()
    elif kind == "empty":
        tensors[name] = tensor[:0].clone()
    elif kind == "range":
        if name == "items" and tensor.dtype == torch.uint8:  # what is compressed has no ranges
            return False
        beyond = [ITEMS, torch.iinfo(tensor.dtype).max] if name == "items" else []  # two bytes hold no -1
        wrong = {"items": beyond, "weights": [-0.5], "codes": [255], "code_scales": [-1.0], "draws": [200]}
        wrong["lengths"] = [-1, 0, 9, 2**31 - 1]
        if name.endswith(".scales"):
            wrong[name] = [-1.0]
        if name not in wrong or (name == "codes" and "packed" in folder.name):  # of two bits any byte is one
            return False
        value = rng.choice(wrong[name])
        tensor.view(-1)[rng.randrange(tensor.numel())] = value
        tensors[name] = tensor
    if is_complex := tensors.get(name, tensor).is_complex():
        tensors[name] = torch.view_as_real(tensors[name])  # safetensors writes complex numbers from 0.7 on
    save_file(tensors, path)
    if is_complex:
        header, data = parts_of(path)
        header[name] |= {"dtype": "C64", "shape": header[name]["shape"][:-1]}
        write_parts(path, json.dumps(header).encode(), data)
    seal(folder)
    return True


def parts_of(path: Path) -> tuple[dict, bytes]:
    """Return the header of a safetensors file, and what comes behind."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def write_parts(path: Path, header: bytes, data: bytes, length: int | None = None) -> None:
    """Write a safetensors file, whose header says that it has another length if one is given."""
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def hostile_header(rng: random.Random, folder: Path, other: Path) -> bool:
    """Write a safetensors header that declares what is not there."""
    files = files_of(folder, ".safetensors")
    if not files:
        return wrong_statement(rng, folder, other)
    path = rng.choice(files)
    header, data = parts_of(path)
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    kind = rng.choice(
        ["shape", "overflow", "zero", "offsets", "overlap", "length", "type", "deep", "dims", "negative", "no json"]
    )
    if kind == "shape":
        entry["shape"] = [rng.choice([2**40, 10**12]), rng.choice([1, 2**10])]
    elif kind == "overflow":
        entry["shape"] = [2**32, 2**32, 2**32]
    elif kind == "zero":
        entry["shape"] = [0, 2**62]
    elif kind == "offsets":
        entry["data_offsets"] = [0, rng.choice([2**62, len(data) + 1, 10**15])]
    elif kind == "overlap":
        entry["data_offsets"] = (
            [0, entry["data_offsets"][1]] if entry["data_offsets"][0] else [4, entry["data_offsets"][1]]
        )
    elif kind == "type":
        entry["dtype"] = rng.choice(["F4", "X", "", 5, "float32", "F8_E8M0"])
    elif kind == "dims":
        entry["shape"] = [1] * 10_000 + entry["shape"]
    elif kind == "negative":
        entry["shape"] = [-1, -1]
    text = json.dumps(header).encode()
    if kind == "deep":
        text = b"[" * 100_000
    if kind == "no json":
        text = rng.choice([b"{", b"null", b"[]", b"\xff", b'{"a": 1}'])
    length = rng.choice([2**63, 2**40, len(text) + 10**8, 0, 1]) if kind == "length" else None
    write_parts(path, text, data, length)
    seal(folder)
    return True


def sparse(rng: random.Random, folder: Path, other: Path) -> bool:
    """Declare a large tensor, and make the file as large without anything in it."""
    files = [p for p in files_of(folder, ".safetensors") if p.parent.name != "trajectory"]
    if not files:
        return wrong_statement(rng, folder, other)
    path = rng.choice(files)
    rows = 2**26 if rng.random() < 0.05 else 2**20  # gigabytes take seconds to be looked at
    names = [name for name in load_file(path) if name != "draws"]
    header = {
        name: {"dtype": "F32", "shape": [rows], "data_offsets": [4 * rows * n, 4 * rows * (n + 1)]}
        for n, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 4 * rows * len(names))
    manifest = json.loads((folder / MANIFEST_NAME).read_text())  # what it says of the rest is right
    del manifest["sha256"]
    manifest["files"][path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": "0" * 64}
    from foster.manifest import _text

    (folder / MANIFEST_NAME).write_text(_text(manifest))
    return True


def wrong_table(rng: random.Random, folder: Path, other: Path) -> bool:
    """Change the table of items or the log such that it is none."""
    files = files_of(folder, ".parquet")
    if not files:
        return wrong_statement(rng, folder, other)
    path = rng.choice(files)
    table = pl.read_parquet(path)
    column = rng.choice(table.columns)
    kind = rng.choice(["null", "twice", "fewer", "type", "without", "blank", "empty", "renamed", "infinite"])
    if kind == "null":
        rows = pl.int_range(pl.len()) == rng.randrange(table.height)
        table = table.with_columns(pl.when(rows).then(None).otherwise(pl.col(column)).alias(column))
    elif kind == "twice":
        table = pl.concat([table, table[:1]])
    elif kind == "fewer":
        table = table[:-1]
    elif kind == "type":
        table = table.with_columns(pl.lit(rng.choice([1, 1.5, True, b"x"])).alias(column))
    elif kind == "without":
        table = table.drop(column)
    elif kind == "blank":
        text = next((c for c in table.columns if c in ("text", "title")), None)
        if text is None:
            return False
        table = table.with_columns(pl.lit(" ").alias(text))
    elif kind == "empty":
        table = table.clear()
    elif kind == "renamed":
        table = table.rename({column: f"{column}s"})
    elif kind == "infinite":
        name = next((c for c in table.columns if c in ("popularity", "timestamp")), None)
        if name is None:
            return False
        table = table.with_columns(pl.lit(rng.choice([math.nan, math.inf]), dtype=pl.Float32).alias(name))
    table.write_parquet(path)
    seal(folder)
    return True


# Any change; the manifest is computed again.


def sealed(change: Change) -> Change:
    def changed(rng: random.Random, folder: Path, other: Path) -> bool:
        done = change(rng, folder, other)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        seal(folder)
        return done

    changed.__name__ = f"{change.__name__}, sealed"
    return changed


def bit_of(*endings: str) -> Change:
    def change(rng: random.Random, folder: Path, other: Path) -> bool:
        return bool(files_of(folder, *endings)) and flipped_bit(rng, folder, other, *endings)

    change.__name__ = f"flipped_bit in {', '.join(endings)}"
    return change


DAMAGE = [
    flipped_bit, flipped_bit, flipped_bit, flipped_bit, cut, longer, zeroed, removed, exchanged, of_another,
    of_another, half_of_another, edited, edited, linked, linked_trajectory, too_many, hostile_manifest,
    hostile_manifest, no_json, damaged_database, damaged_database,
]  # fmt: skip
WRONG = [
    wrong_statement, wrong_statement, wrong_statement, wrong_options, wrong_tensors, wrong_tensors, wrong_tensors,
    hostile_header, sparse, wrong_table,
]  # fmt: skip
ANY = [
    sealed(change)
    for change in (
        bit_of(".safetensors"), bit_of(".parquet"), bit_of(".parquet"), bit_of(".json", ".jsonl"), cut, longer,
        zeroed, removed, exchanged, of_another, half_of_another, edited, edited, edited, no_json,
    )
]  # fmt: skip


def run(cases: int, seed: int, place: Path, say: Callable[[str], None]) -> tuple[collections.Counter[str], list[str]]:
    """Run the cases; return how often each thing happened, and the failures, one a line."""
    for which in (0, 1):
        make(place / str(which), which)
        make_growing(place / str(which), which)
    kinds = sorted(path.name for path in (place / "0").iterdir())
    for name in kinds:
        read(place / "0" / name)  # the undamaged are right
    counts: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    number = 0
    while counts["cases"] < cases:
        number += 1
        rng = random.Random(f"{seed} {number}")
        sort = ("damage", "wrong values", "any change")[number % 3]
        change = rng.choice({"damage": DAMAGE, "wrong values": WRONG, "any change": ANY}[sort])
        name = rng.choice(kinds)
        # Foster never reads the first again; the others show what they hold, or compare it with what they are given.
        if name in ("handed-on", *GROWING) and sort == "wrong values":
            continue
        with tempfile.TemporaryDirectory(dir=place) as work:
            folder = Path(shutil.copytree(place / "0" / name, Path(work) / name))
            if not change(rng, folder, place / "1" / name):
                continue
            counts["cases"] += 1
            outcome = read_once(folder)
        counts[f"{sort}: {outcome.split(':')[0]}"] += 1
        bad = outcome.startswith("traceback") or (outcome == "read" and sort != "any change")
        if bad:
            failures.append(f"{number}: {change.__name__} of {name}: {outcome}")
            say(failures[-1])
    return counts, failures


def read_once(folder: Path) -> str:
    """Read a folder and say what came of it: read, refused or traceback: why."""
    signal.alarm(SECONDS)
    try:
        read(folder)
    except InputError as error:
        message = str(error)
        return "refused" if "\n" not in message and str(folder.name) in message else f"traceback: no name in {message}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if os.environ.get("TRACE"):
            traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"traceback: {type(error).__name__} {str(error)[:200]} at {where.filename}:{where.lineno}"
    finally:
        signal.alarm(0)
    return "read"


def stop(number: int, frame: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=6600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, stop)
    # What is declared only must not be made room for.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, used + SPARE))
    with tempfile.TemporaryDirectory() as place:
        counts, failures = run(arguments.cases, arguments.seed, Path(place), lambda line: print(line, flush=True))
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    print(f"{len(failures)} silent or with a traceback")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
