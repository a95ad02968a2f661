"""Several processes go on together where they were cut off."""

import os
import sys
from pathlib import Path

from foster.data.dataset import Dataset
from processes import in_processes
from synthetic_log import synthetic_log, write_csv
from test_unfinished import content

SCRIPT = """
import sys
from pathlib import Path
from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.models.options import ModelOptions
from foster.runs import pretrain
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from foster.unfinished import Unfinished

data, encoder, root = sys.argv[1:4]
engine, said = Engine("cpu"), []
plain = Unfinished.save

class Killed(BaseException):
    pass

def save(self, at, **parts):
    plain(self, at, **parts)
    if at == "step 10" and killing:
        raise Killed

Unfinished.save = save
for killing, out in ((False, "whole"), (True, "out"), (False, "out")):
    recipe = TrainOptions(steps=30, eval_every=5, batch_size=16, candidates=20)
    kinds = {"model": ModelOptions(dim=8, layers=1, max_length=8, dropout=0.3)}
    kinds |= {"teacher": TeacherOptions(checkpoints=4)}
    try:
        pretrain(Dataset.read(data), Path(root) / out, encoder=EncoderOptions(encoder=encoder), train=recipe,
                 **kinds, engine=engine, say=said.append)
    except Killed:
        engine.wait()
(Path(root) / f"said-{engine.rank}.txt").write_text("\\n".join(said))
engine.close()
"""


def test_two_processes_go_on_and_end_as_if_nothing_had_been(tiny_encoder, tmp_path):
    log = write_csv(tmp_path / "log.csv", synthetic_log())
    Dataset.prepare([str(log)], k_core=0).save(tmp_path / "data")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    in_processes(2, script, tmp_path / "data", tiny_encoder, tmp_path, PYTHONPATH=paths)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    said = [(tmp_path / f"said-{rank}.txt").read_text() for rank in (0, 1)]
    assert said == [f"{tmp_path / 'out'}.part: goes on after step 10, where a run of this command was cut off", ""]
    assert not (tmp_path / "out.part").exists()
