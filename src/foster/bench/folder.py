"""The folder of a benchmark: which runs are finished, and whether what is there is of these options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foster.artefacts import CONFIG_NAME, DATASET_NAME, cannot_write, marked, read_config, read_json, write_json
from foster.bench.plan import Plan
from foster.bench.results import BENCH_NAME, KIND, PLOT_NAME, RESULTS
from foster.bench.rows import Run
from foster.distillation.budget import COMPACT, Form, as_stored, may_be_written
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.json_text import with_sha256, without_sha256
from foster.manifest import MANIFEST_NAME, read_manifest, whole_files
from foster.options import Options
from foster.storage import file_sha256, remove_left, whole_file


class BenchFolder:
    """A folder of finished runs.

    ``seedS/teacher`` and ``seedS/NAME-M`` are artefacts; ``seedS/NAME-M.json`` is the record of a finished run, with
    ``NAME-M.ranks.npy`` beside it. A finished run is never made twice. One that cannot be made, because its training
    diverged for example, leaves ``NAME-M.failed.json`` and is tried again the next time.

    Args:
        out: the folder.
        plan: what is compared.
    """

    def __init__(self, out: Path, plan: Plan) -> None:
        self.out: Path = out
        self.plan: Plan = plan

    def claim(self, engine: Engine, dry_run: bool = False) -> None:
        """Mark the folder as one of this log and these options, or see that it is or can be.

        Args:
            engine: processes; one of them marks it.
            dry_run: look only.

        Raises:
            InputError: it is of something else, or cannot be written.
        """
        if not engine.is_main:
            engine.wait()  # until it is marked
        path, recipe = self.out / BENCH_NAME, self.plan.recipe
        about = {"data_fingerprint": self.plan.data.info.fingerprint, **recipe.as_dict()}
        about["student_steps"] = self.plan.options.student_steps
        if os.path.lexists(path):
            found = read_json(path) if path.is_file() else {"kind": KIND}
            if found.get("kind") != KIND:
                raise InputError(f"{path}: is of no benchmark of foster; give another --out")
            self._check_bench()
            if engine.is_main and not dry_run:
                for pattern in (".*.tmp", "seed*/.*.tmp"):  # several may be at work here, so only what is old
                    remove_left(self.out, pattern)
            for key, value in about.items():
                options = getattr(recipe, key, None)
                if not (_same(options, found.get(key), path) if options else found.get(key) == value):
                    raise InputError(f"{path}: was made with another '{key}'; give another --out, or the same options")
        elif engine.is_main:
            if (name := _in_the_way(self.out)) is not None:
                raise InputError(f"{self.out}: holds {name}, which is of no benchmark; give another --out")
            if dry_run:
                return
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                with whole_files(self.out, {"kind": KIND}) as place:
                    write_json(place(BENCH_NAME), marked(KIND) | about)
            except OSError as error:
                raise cannot_write(self.out, error) from error
        if engine.is_main:
            engine.wait()

    def _check_bench(self) -> None:
        """See that ``bench.json`` is as it was written.

        Raises:
            InputError: it is not.
        """
        if not (self.out / MANIFEST_NAME).exists() and not any(self.out.glob("seed*/*.json")):
            with whole_files(self.out, {"kind": KIND}, also=[BENCH_NAME]):  # killed just after it was written
                pass
        read_manifest(self.out).check(BENCH_NAME)

    def teacher(self, seed: int) -> Path:
        """Return the folder of a seed's teacher."""
        return self.out / f"seed{seed}" / "teacher"

    def artefact(self, run: Run) -> Path:
        """Return the folder of what a run trains on."""
        return self.out / f"seed{run.seed}" / run.artefact

    def made(self, run: Run) -> Path:
        """Return the file that says what making the artefact took; it is there once the folder is complete."""
        return self.out / f"seed{run.seed}" / f"{run.artefact}.made.json"

    def record(self, run: Run) -> Path:
        """Return the file of a finished run."""
        return self.out / f"seed{run.seed}" / f"{run.name}.json"

    def failure(self, run: Run) -> Path:
        """Return the file that says why a run could not be made."""
        return self.record(run).with_suffix(".failed.json")

    def ranks_name(self, run: Run) -> str:
        """Return the name, within the folder, of the file with the ranks of a run."""
        return f"seed{run.seed}/{run.name}.ranks.npy"

    def ranks(self, record: Mapping[str, Any]) -> np.ndarray:
        """Return the rank of every test target of a finished run, ``[targets]``.

        Raises:
            InputError: they are not those that the record is of.
        """
        path = self.out / record["ranks"]
        if not path.is_file() or path.is_symlink() or file_sha256(path) != record["ranks_sha256"]:
            of = path.with_name(path.name.replace(".ranks.npy", ".json"))
            raise InputError(f"{path}: is missing or damaged; remove {of}, and the same command makes the run again")
        return np.load(path)

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a record, what making took, or why a run failed, with what tells it from any other."""
        with whole_file(path) as part:
            write_json(part, with_sha256({**content, **self._belongs(path)}))

    def read(self, path: Path) -> dict[str, Any]:
        """Read what ``write`` wrote.

        Raises:
            InputError: it is damaged, was changed, or is of another benchmark.
        """
        content = without_sha256(read_json(path) if path.is_file() and not path.is_symlink() else {})
        if content is None:
            what = "is damaged, was changed, or an earlier version made it"
        elif not self._belongs(path).items() <= content.items():
            what = "is of another benchmark, or of another run"
        else:
            return content
        raise InputError(f"{path}: {what}; remove it, and the same command makes the run again")

    def is_made(self, run: Run) -> bool:
        """Whether the artefact that a run trains on is there: sequences, or for the full log its teacher."""
        return self.teacher(run.seed).exists() if run.variant.method == "full" else self.made(run).exists()

    def is_finished(self, run: Run) -> bool:
        """Whether nothing is to be done for a run."""
        return self.record(run).exists() and not self.failure(run).exists() and not self._is_of_former_sequences(run)

    def _belongs(self, path: Path) -> dict[str, str]:
        """Return what a record says of where it belongs."""
        return {"file": path.relative_to(self.out).as_posix(), "bench": file_sha256(self.out / BENCH_NAME)}

    def missing(self) -> list[Run]:
        """Return the runs that are to be made.

        Raises:
            InputError: what is there was made with other options.
        """
        runs = self.plan.runs()
        for run in runs:
            self._check_options(run)
        return [run for run in runs if not self.is_finished(run)]

    def records(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Return the records of all runs, once each was tried, and why some have failed, by ``seedS/NAME``."""
        runs = self.plan.runs()
        failed = {run: self.read(self.failure(run))["error"] for run in runs if self.failure(run).exists()}
        records = [self.read(self.record(run)) for run in runs if run not in failed]
        return records, {f"seed{run.seed}/{run.name}": error for run, error in failed.items()}

    def _is_of_former_sequences(self, run: Run) -> bool:
        """Whether the sequences were removed and made again since this run of theirs was finished."""
        made = self.made(run)
        if not made.exists():
            return False
        known, found = (self.read(path).get("sequences_sha256") for path in (made, self.record(run)))
        return known is not None and known != found

    def _check_options(self, run: Run) -> None:
        """Refuse to take what is there for an artefact with other options, whether its students are finished or not."""
        recipe, folder, path = self.plan.recipe, self.artefact(run), self.record(run)
        fix = f"give the row another name, or remove {path}, {self.made(run)} and {folder}"
        if path.exists():
            found = self.read(path)
            if found["method"] != run.variant.method:
                raise InputError(f"{path}: row '{run.variant.name}' was made by {found['method']}; {fix}")
        if run.variant.method == "full" and self.teacher(run.seed).exists():
            config = read_config(self.teacher(run.seed), "teacher")
            for name, options in (("encoder", "encoder"), ("model", "model"), ("training", "train")):
                if not _same(getattr(recipe, options), config.get(name), folder):
                    raise InputError(
                        f"{self.teacher(run.seed)}: was made with other {name} options; remove it, or give the same "
                        "options"
                    )
            if config.get("seed") != run.seed:
                raise InputError(f"{self.teacher(run.seed)}: is of seed {config.get('seed')}; remove it")
        if run.student:  # the artefact is that of the run without a student, which is always there too
            if path.exists():
                found = found.get("student_options") or {}
                groups = {"encoder": run.student.encoder, "model": run.student.model}
                if not all(_same(options, found.get(name), path) for name, options in groups.items()):
                    raise InputError(f"{path}: student '{run.student.name}' had other options; give it another name")
            return
        if run.variant.options is None or not self.made(run).exists():
            return
        config, expected = read_config(folder, "distilled"), self.plan.options_of(run)
        found = config["info"]["options"]
        if run.in_bytes:  # how many sequences these bytes hold, and in which form, was found out
            if isinstance(expected, DistillOptions):
                written = found.get("targets") == "written" and may_be_written(expected, COMPACT[-1])
                labeller = found.get("start") == "generated"  # as what it labels is, unless others were asked for
                form = Form(config["adapter_bits"], written=written, labeller=labeller)
                expected = as_stored(expected, form)
            expected = expected.model_copy(update={"sequences": found.get("sequences")})
        if not _same(expected, found, folder):
            raise InputError(f"{folder}: row '{run.variant.name}' was made with other options; {fix}")


def _in_the_way(out: Path) -> str | None:
    """Return what is in a folder without a benchmark that one would write over or mix with, or None.

    Teachers of seeds may be there already.
    """
    names = [DATASET_NAME, CONFIG_NAME, *RESULTS, PLOT_NAME]
    runs = [path.relative_to(out).as_posix() for path in sorted(out.glob("seed[0-9]*/[!.]*")) if path.name != "teacher"]
    return next(iter([name for name in names if os.path.lexists(out / name)] + runs), None)


def _same(options: Options, found: Any, source: Path) -> bool:
    """Whether stored options are these; what an earlier version did not store has its default."""
    return isinstance(found, dict) and type(options).parse(found, str(source)) == options
