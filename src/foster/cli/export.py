"""``foster export``: a model for onnxruntime, sequences for programs that are not foster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foster.cli.arguments import Out, Overwrite
from foster.cli.flags import verb
from foster.cli.folders import free
from foster.cli.output import show
from foster.cli.values import Values
from foster.errors import InputError

OF_MODELS, OF_SEQUENCES = ("onnx",), ("jsonl", "hf")


@verb(
    examples=(
        "foster export model --to onnx --out onnx",
        "foster export distilled --to jsonl --out prompts",
    ),
)
def export(
    source: Annotated[Path, typer.Argument(help="folder of a model or teacher (onnx), or of sequences (jsonl, hf)")],
    out: Out,
    to: Annotated[
        str,
        typer.Option(
            help="onnx: graphs and item table for onnxruntime; jsonl: hard sequences and prompts; hf: a data set that "
            "datasets.load_dataset reads"
        ),
    ],
    encoder: Annotated[str | None, typer.Option(help="another place of the encoder that it was made with")] = None,
    overwrite: Overwrite = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Write a model as ONNX, or sequences as JSON lines or a Hugging Face data set."""
    from foster.artefacts import artefact_kind, kind_words
    from foster.condensed.sequences import Condensed
    from foster.models.recommender import TextRecommender

    if to not in (*OF_MODELS, *OF_SEQUENCES):
        raise InputError(f"--to {to}: unknown; give onnx for a model, jsonl or hf for sequences")
    place = free(out, overwrite, source)
    kind = artefact_kind(source)
    kinds = ("model", "teacher") if to in OF_MODELS else ("distilled", "coreset")
    if kind not in kinds:
        raise InputError(
            f"{source}: holds {kind_words(kind)}, but --to {to} is for {' or '.join(map(kind_words, kinds))}"
        )
    result: dict[str, Any] = {"out": str(out), "to": to}
    if to == "onnx":
        from foster.serving.onnx_export import require_onnx, write_onnx

        require_onnx()
        model = TextRecommender.from_pretrained(source, encoder_path=encoder)
        with place.fill({"arguments": {"to": to}}) as folder:
            result |= write_onnx(model, folder, Path(source).resolve().name)
        said = f"{', '.join(result['files'])}; onnxruntime's numbers are torch's to {result['deviation']:.0e}"
    else:
        from foster.serving.handed_on import write_hf, write_jsonl

        condensed = Condensed.read(source, encoder_path=encoder)
        with place.fill({"arguments": {"to": to}}) as folder:
            counts = (write_hf if to == "hf" else write_jsonl)(condensed, folder)
        result |= counts
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    show(result, as_json, f"{out}: {said}")
