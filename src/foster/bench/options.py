"""Options of the benchmark."""

from __future__ import annotations

from pydantic import Field

from foster.options import Names, Options


class BenchOptions(Options):
    """What is compared."""

    methods: Names | None = Field(
        None,
        description="comma-separated; popularity, random and full are always there; by default all that work on such "
        "models",
    )
    seeds: int = Field(5, ge=1, description="runs of each method, from --seed upwards, each with its own teacher")
    budgets: Names = Field(("20",), description="comma-separated numbers M of sequences")
    bytes: Names | None = Field(
        None,
        description="comma-separated sizes of folders, item texts aside, in place of --budgets: each method has as "
        "many sequences as fit",
    )
    student_steps: int | None = Field(
        None, ge=1, description="most steps of a student; by default those of the two recipes"
    )
    reference: str | None = Field(None, description="a row that all others are compared with, beside random and full")
    new_items: float = Field(
        0.0, ge=0, lt=1, description="share of items, the newest, that are withheld from all training and ranked apart"
    )
