"""``foster doctor``: versions, devices, what is missing."""

from __future__ import annotations

from foster.cli.flags import verb
from foster.cli.output import show
from foster.cli.values import CommonOptions, Values


@verb(
    examples=(
        "foster doctor",
        "foster doctor --device cuda --json",
    ),
)
def doctor(*, values: Values, as_json: bool) -> None:
    """Show versions, devices and what is missing."""
    from foster.doctor import examine

    result = examine(values.of(CommonOptions).device)
    rows = [f"{key:<24}{value}" for key, value in result.items() if key != "missing"]
    rows += [f"missing: {line}" for line in result["missing"]] or ["nothing is missing"]
    show(result, as_json, "\n".join(rows))
