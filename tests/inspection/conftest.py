"""Folders of every kind with hostile texts, made without any training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foster.artefacts import METRICS_NAME, marked
from foster.audit.audit import Audit
from foster.bench.summary import summarise
from foster.condensed.contexts import label_windows
from foster.condensed.labels import with_soft_labels
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.manifest import seal
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.options import EncoderOptions
from mixture_steps import steps
from synthetic_log import synthetic_log, write_csv

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "red \u202eelppa\u2066 apple",
    "{{ 7 * 7 }} {% raw %} ${x} $\\alpha$ &amp; &lt;",
    "escape \x1b[31m bell \x07",
    "</title></style></svg><style>*{display:none}</style>",
    "javascript:alert(1) https://example.org/x.png",
    "x" * 400,
)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Dataset:
    """A log whose items have hostile texts and a category."""
    rows = synthetic_log(users=80)
    titles = sorted({str(row["title"]) for row in rows})
    for row in rows:
        place = titles.index(str(row["title"]))
        if place < len(HOSTILE):
            row["title"] = f"{HOSTILE[place]} {place}"
        row["category"] = str(row["title"]).split()[-1] if place >= len(HOSTILE) else "<b>bold</b>"
        row["timestamp"] = 1_500_000_000 + 86_400 * 30 * int(row["timestamp"])
    for row in rows:  # texts are those of an item's first row
        row["item_id"] = f"<i>{row['item_id']}"
    return Dataset.prepare(write_csv(tmp_path_factory.mktemp("log") / "log.csv", rows), text=["title", "category"])


@pytest.fixture(scope="session")
def data_folder(data, tmp_path_factory) -> Path:
    return data.save(tmp_path_factory.mktemp("data") / "log")


@pytest.fixture(scope="session")
def teacher(data, tiny_encoder, tmp_path_factory) -> TextRecommender:
    """A model with random weights."""
    options = ModelOptions(dim=8, layers=1, heads=1, max_length=10, dropout=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOSTER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return TextRecommender.build(data.catalogue, EncoderOptions(encoder=str(tiny_encoder)), options).eval()


@pytest.fixture(scope="session")
def distilled(data, teacher) -> Condensed:
    """Four sequences of eight mixtures with soft labels, of which one item stands for each step in the windows."""
    items, weights = steps(data, 4, 8, 3)
    plain = Condensed(
        "distilled", "foster", items, weights, None, None, data.catalogue, encoder=teacher.encoder,
        model=teacher.options,
        info={"from_real_data": "<b>histories</b>", "data_fingerprint": data.info.fingerprint, "kept_step": 2,
              "options": {"<u>\u202eoption": "\x1b[31m<script>"}},
    )  # fmt: skip
    return with_soft_labels(plain, teacher, label_windows(8, 5), torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def distilled_folder(distilled, tmp_path_factory) -> Path:
    folder = distilled.save(tmp_path_factory.mktemp("distilled") / "twenty")
    records = [
        {"step": step, "gap": -0.5 + step / 10, "reset": step, "weight": 1.0, "<u>\u202ename": step}
        for step in range(6)
    ]
    (folder / METRICS_NAME).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    seal(folder)
    return folder


@pytest.fixture(scope="session")
def coreset_folder(data, teacher, tmp_path_factory) -> Path:
    histories = [data.sequence(user) for user in range(5)]
    info = {"from_real_data": "real histories", "data_fingerprint": data.info.fingerprint}
    coreset = Condensed.of_histories(
        histories, 10, "random", data.catalogue, encoder=teacher.encoder, model=teacher.options, info=info
    )
    return coreset.save(tmp_path_factory.mktemp("coreset") / "random")


@pytest.fixture(scope="session")
def model_folder(teacher, tmp_path_factory) -> Path:
    history = [{"step": step, "loss": 5.0 - step / 100, "ndcg@10": step / 1000} for step in (10, 20, 30)]
    fit = {"steps": 30, "best_step": 30, "best_ndcg": 0.03, "history": history, "precision": "float32"}
    extra = {"fit": fit, "training": {"steps": 30}, "seed": 0}
    return teacher.save_pretrained(tmp_path_factory.mktemp("model") / "model", extra=extra)


@pytest.fixture(scope="session")
def bench_folder(tmp_path_factory) -> Path:
    records = [
        {
            "name": name, "method": name, "budget": budget, "seed": seed, "needs_teacher": False, "interactions": 5,
            "metrics": {"ndcg@10": quality + seed / 1000, "recall@10": 2 * quality}, "train_seconds": 10.0,
            **({} if name == "full" else {"make_seconds": 1.0, "bytes": 1000}),
        }
        for name, budget, quality in (("full", None, 0.05), ("random", 20, 0.02), ("<i>foster", 20, 0.04))
        for seed in (0, 1)
    ]  # fmt: skip
    about = {"data": "<u>toy", "seeds": [0, 1], "users": 5, "failed": {"td3 seed 1": "/secret/place: broke"}}
    folder = tmp_path_factory.mktemp("bench") / "bench"
    (folder / "seed0" / "random-20").mkdir(parents=True)
    (folder / "seed0" / "random-20" / "config.json").write_text("{}")
    (folder / "bench.json").write_text(json.dumps({"kind": "bench", "encoder": {"encoder": "/secret/place/encoder"}}))
    (folder / "results.json").write_text(json.dumps({"about": about, "rows": summarise(records, None)}))
    seal(folder)
    return folder


def an_audit() -> Audit:
    """Return what an audit with shadows may find."""
    runs = [
        {"n": n, "runs": 9, "found": 0.9, "one_user": 0.5, "2_to_4_users": 0.25, "5_or_more": 0.15,
         "users_with_run": 4, "users_alone": 2}
        for n in range(2, 17)
    ]  # fmt: skip
    pieces = {"users": 60, "steps": 32, "runs": runs, "longest_run": 16, "windows": 4, "near": 0.5, "near_one": 0.25}
    attack = {
        "auc": 0.75, "auc_interval": [0.7, 0.8], "tpr@0.001": 0.01, "tpr@0.001_interval": [0.0, 0.1],
        "tpr@0.01": 0.02, "tpr@0.01_interval": [0.0, 0.2], "targets": 3, "users": 60,
    }  # fmt: skip
    about = {
        "data_fingerprint": "0" * 64, "method": "<b>foster", "sequences": 4, "users": 60, "seed": 0, "shadows": 3,
        "shadow_steps": 4, "shadow_student_steps": 4,
    }  # fmt: skip
    return Audit(
        about,
        {"all of it": "<b>histories</b>", "codes": "the teacher's states"},
        dict.fromkeys(("sequences", "popularity", "transitions"), pieces),
        [{"n": n, "members": 0.5, "others": 0.25} for n in range(2, 17)],
        {"sequences": attack, "<i>student": attack},
    )


@pytest.fixture(scope="session")
def audit_folder(tmp_path_factory) -> Path:
    return an_audit().save(tmp_path_factory.mktemp("audit") / "audit")


@pytest.fixture(scope="session")
def study_folder(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "study"
    (folder / "retrained" / "trial-1").mkdir(parents=True)
    (folder / "retrained" / "trial-1" / "config.json").write_text("{}")
    space = {"dim": {"choices": [8, 16]}, "<i>lr": {"low": 0.001, "high": 0.01, "log": True}}
    about = {"validation": {"kind": "dataset", "fingerprint": data.info.fingerprint}, "space": space, "seed": 0}
    encoder = {"encoder": {"encoder": "/secret/place/encoder"}}
    (folder / "config.json").write_text(json.dumps({**marked("study"), **about, **encoder}))
    best = [
        {"trial": trial, "state": "complete", "value": value, "noise": noise, "default": trial == 0, "last_step": 4,
         "best_step": 4, "seconds": 1.0, "reason": None, "dim": 8, "<i>lr": 0.002, "full_log": None}
        for trial, value, noise in ((1, 0.04, None), (0, 0.03, 0.004))
    ]  # fmt: skip
    results = {
        "trials": {"finished": 2, "pruned": 1}, "best": best, "importance": {"dim": 0.75, "<i>lr": 0.25},
        "retrained": [
            {"trial": 1, "value": 0.04, "ndcg@10": 0.05, "noise": None},
            {"trial": 0, "value": 0.03, "error": "<b>broke"},
            {"trial": 2, "value": 0.02, "ndcg@10": 0.03, "noise": 0.004},
        ],
        "verdict": {"search": 1, "best": 1, "regret": 0.0, "alike": []}, "trial": 1, "config": {"dim": 8, "layers": 1},
        "source": "distilled", "finish": True, "seed": 0,
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "trials.csv").write_text("trial,state,value\n0,complete,0.03\n1,complete,0.04\n2,pruned,\n")
    seal(folder)
    return folder


@pytest.fixture(params=["data", "distilled", "coreset", "model", "audit", "bench", "study"])
def any_folder(request) -> Path:
    """A folder of each kind."""
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return folder
