"""Several processes share one study."""

import json
import re

import pytest

pytest.importorskip("optuna")

from foster import Dataset, EncoderOptions, ModelOptions, select
from processes import in_processes
from synthetic_log import synthetic_log, write_csv


@pytest.mark.slow
def test_processes_share_the_trials(tmp_path, tiny_encoder):
    data = Dataset.prepare([str(write_csv(tmp_path / "log.csv", synthetic_log()))])
    data.save(tmp_path / "data")
    encoder = EncoderOptions(encoder=str(tiny_encoder), words=0)
    coreset = select("random", data, 3, encoder=encoder, model=ModelOptions(dim=8, adapter="linear"))
    coreset.save(tmp_path / "coreset")
    (tmp_path / "space.yaml").write_text("lr: {low: 1e-4, high: 1e-2}\nsteps: [4]\n")
    command = ("-m", "foster", "tune", "coreset", "--validation", "data", "--space", "space.yaml", "--device", "cpu")
    for more in ((), ("--overwrite",)):
        done = in_processes(2, *command, "--out", "study", "--trials", 5, "--retrain", 2, "--json", *more, cwd=tmp_path)
        found = json.loads(done.stdout)
        assert sum(found["trials"].values()) == 5 and len(found["retrained"]) == 2
        made = re.findall(r"^trial (\d+): .*NDCG@10", done.stderr, re.M)
        assert sorted(map(int, made)) == [0, 1, 2, 3, 4]
