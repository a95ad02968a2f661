"""What a folder says of the differential privacy of its weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foster.artefacts import Size, Stored

PUBLIC = "the catalogue: ids, texts and order of the items, and which items there are, as the prepared data have them"
NOT_COVERED = (
    "what 'foster prepare' left out (a k-core looks at all users); options that were chosen by looking at the log; "
    "validation and test figures, which are of the data themselves"
)

Positive = Annotated[float, Field(gt=0)]


class Privacy(Stored):
    """User-level (epsilon, delta)-differential privacy of a training, and how it came about.

    Two logs are neighbours if one has one user more than the other, with the whole history.
    """

    unit: Literal["user"] = "user"
    adjacency: Literal["one user added or removed"] = "one user added or removed"
    epsilon: Positive
    """Of the training and of the noised count of users together."""
    delta: Annotated[float, Field(gt=0, lt=1)]
    noise_multiplier: Positive
    """Standard deviation of the noise on a sum of gradients, in units of ``clip``."""
    clip: Positive
    """Largest norm of a user's gradient."""
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    """With which each user takes part in a step, independently of the others (Poisson)."""
    steps: Size
    expected_users: Size
    """A step on average; what sums are divided by."""
    accountant: str
    public: str = PUBLIC
    not_covered: str = NOT_COVERED

    @property
    def users(self) -> int:
        """How many users the log has, as the sampling rate says it: with noise."""
        return round(self.expected_users / self.sampling_rate)

    @property
    def line(self) -> str:
        """The line of a card."""
        return f"- privacy: {self.words}\n"

    @property
    def budget(self) -> str:
        """What was spent, in words."""
        return f"epsilon {self.epsilon:.4g} at delta {self.delta:g}"

    @property
    def words(self) -> str:
        """All of it in words."""
        return (
            f"user-level differential privacy, {self.budget} "
            f"({self.adjacency}; noise multiplier {self.noise_multiplier:.4g}, clip {self.clip:g}, sampling rate "
            f"{self.sampling_rate:.4g}, {self.steps} steps; {self.accountant}); public: {self.public}; not covered: "
            f"{self.not_covered}"
        )
