"""Options of an audit."""

from __future__ import annotations

from pydantic import Field

from foster.options import Options


class AuditOptions(Options):
    """How much is spent on telling members from others."""

    shadows: int = Field(
        8,
        ge=0,
        description="K, halves of the users from which everything is made anew to tell members from others, at least "
        "3; 0 looks at the pieces of histories alone, which takes seconds",
    )
    shadow_steps: int = Field(
        300, ge=1, description="most training steps of a shadow teacher: fewer remember less than the real one did"
    )
    shadow_student_steps: int = Field(300, ge=1, description="most training steps of a student of shadow sequences")
