"""What a search draws from: choices and ranges of options, in optuna's terms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from foster.errors import InputError, did_you_mean
from foster.models.options import WITHOUT_EFFECT, ModelOptions
from foster.options import Options, flag_of
from foster.text.options import EncoderOptions
from foster.text.tuning import parse_finetune
from foster.training.options import TrainOptions

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

GROUPS: tuple[type[Options], ...] = (ModelOptions, TrainOptions)
"""Whose fields can be searched."""

DEFAULT: dict[str, Any] = {
    "backbone": {"choices": ["sasrec", "gru4rec", "mean"]},
    "dim": {"choices": [32, 64, 128, 256]},
    "layers": {"low": 1, "high": 3},
    "heads": {"choices": [1, 2, 4]},
    "max_length": {"choices": [10, 20, 50]},
    "dropout": {"low": 0.0, "high": 0.5},
    "lr": {"low": 5e-4, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-3, "high": 0.3, "log": True},
}
"""The same for logs, coresets and soft labels, so that searches can be compared: what students hardly notice is in it,
what only a log or only hard labels have (batches, sampled items, another map of items) is not."""

SHARED = "eval_users"  # of the recipe, but no option of one trial
TERMS = ("choices", "low", "high", "step", "log")
DIGITS = 4  # of a number from a range: what is written is then what was trained with
DRAWS = 300  # random points at which it is seen whether options go together
EXAMPLE = "lr: {low: 0.001, high: 0.01, log: true}"


@dataclass(frozen=True)
class Choice:
    """Some values of an option.

    Attributes:
        values: at least one, all different.
    """

    values: tuple[Any, ...]

    def terms(self) -> dict[str, Any]:
        """Return it as a space file says it."""
        return {"choices": list(self.values)}

    def distribution(self) -> BaseDistribution:
        """Return it as optuna has it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def holds(self, value: Any) -> bool:
        """Whether a value can be drawn."""
        return any(_same(value, other) for other in self.values)

    def taken(self, value: Any) -> Any:
        """Return the value that is trained with where this one was drawn."""
        return value


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        low: the least.
        high: the greatest.
        step: between them; None for all numbers, of whole ones 1.
        log: whether their logarithms are drawn evenly.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def terms(self) -> dict[str, Any]:
        """Return it as a space file says it."""
        out: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.step is not None:
            out["step"] = self.step
        return out | ({"log": True} if self.log else {})

    def distribution(self) -> BaseDistribution:
        """Return it as optuna has it.

        Raises:
            ValueError: nothing lies in it, or optuna has no such range.
        """
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), self.log, step)
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def holds(self, value: Any) -> bool:
        """Whether a value can be drawn."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or (1 if self.whole else 0) or value - self.low or 1)
        return abs(steps - round(steps)) < 1e-6

    def taken(self, value: float) -> float:
        """Return the number that is trained with where this one was drawn: four digits of it."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Space:
    """The options that are searched.

    Attributes:
        parts: choices or a range by the option's name.
    """

    parts: dict[str, Choice | Range]

    @classmethod
    def parse(cls, given: Mapping[str, Any], where: str = "space") -> Space:
        """Read a space.

        Args:
            given: ``{option: {"choices": [..]} or {"low": .., "high": .., "step": .., "log": ..}}``; a list stands for
                choices.
            where: the file that it comes from, named in errors.

        Raises:
            InputError: an option that is unknown or cannot be searched, a value that it cannot have, nothing to draw
                from.
        """
        if not isinstance(given, Mapping) or not given:
            raise InputError(f"{where}: must hold options and what to draw them from, as in '{EXAMPLE}'")
        names = [str(name).replace("-", "_") for name in given]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"{where}: '{twice}' stands there twice; leave one")
        return cls({name: _part(name, terms, where) for name, terms in zip(names, given.values(), strict=True)})

    @classmethod
    def default(cls, given: Sequence[str] = (), backbone: str | None = None) -> Space:
        """Return the default space without the options that are given, and those that a given backbone has no use for.

        Raises:
            InputError: nothing is left to search.
        """
        out = {*given, *(WITHOUT_EFFECT[backbone] if backbone else ())}
        left = {name: terms for name, terms in DEFAULT.items() if name not in out}
        if not left:
            raise InputError("tune: all options of the default space are given; leave some out, or give --space")
        return cls.parse(left)

    def terms(self) -> dict[str, Any]:
        """Return it as a space file says it."""
        return {name: part.terms() for name, part in self.parts.items()}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return it as optuna has it."""
        return {name: part.distribution() for name, part in self.parts.items()}

    def taken(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that are trained with where these were drawn."""
        return {name: part.taken(drawn[name]) for name, part in self.parts.items() if name in drawn}

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether options can be drawn; those of other names do not count."""
        return all(part.holds(values[name]) for name, part in self.parts.items())

    def check(self, model: ModelOptions, train: TrainOptions, where: str) -> str | None:
        """See at random points whether options go together.

        Args:
            model: what is not searched.
            train: what is not searched.
            where: where the space comes from.

        Returns:
            One line on those that do not, None where all do.

        Raises:
            InputError: none do.
        """
        import optuna

        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        faults = []
        for _ in range(DRAWS):
            drawn = study.ask(self.distributions()).params
            try:
                merged(self.taken(drawn), model, train)
            except InputError as error:
                faults.append(str(error).removeprefix("options: "))
        if len(faults) == DRAWS:
            raise InputError(f"{where}: no options in it go together: {faults[0]}")
        if not faults:
            return None
        share = len(faults) / DRAWS
        return f"{where}: {share:.0%} of it cannot be trained ({faults[0]}, for one); such trials end at once"


def merged(options: Mapping[str, Any], model: ModelOptions, train: TrainOptions) -> tuple[ModelOptions, TrainOptions]:
    """Return model and recipe with some options in place of theirs.

    Raises:
        InputError: options that do not go together.
    """
    of_model = {name: value for name, value in options.items() if name in ModelOptions.model_fields}
    of_recipe = {name: value for name, value in options.items() if name not in of_model}
    return (
        ModelOptions.parse({**model.model_dump(), **of_model}),
        TrainOptions.parse({**train.model_dump(), **of_recipe}),
    )


def _part(name: str, terms: Any, where: str) -> Choice | Range:
    """Read what an option is drawn from."""
    group = next((group for group in GROUPS if name in group.model_fields), None)
    if group is None:
        known = sorted(name for group in GROUPS for name in group.model_fields if name != SHARED)
        if name in EncoderOptions.model_fields:
            raise InputError(f"{where}: '{name}' is of the encoder, which all trials share; give it by {flag_of(name)}")
        hint = did_you_mean(name, known) or f"; known are {', '.join(known)}"
        raise InputError(f"{where}: unknown option '{name}'{hint}")
    if name == SHARED:
        raise InputError(f"{where}: '{name}' must be the same in all trials, which are compared; leave it out")
    if isinstance(terms, list):
        terms = {"choices": terms}
    if not isinstance(terms, Mapping):
        raise InputError(f"{where}: option '{name}' must hold a list of choices, or low and high, as in '{EXAMPLE}'")
    for key in terms:
        if key not in TERMS:
            hint = did_you_mean(str(key), TERMS) or f"; known are {', '.join(TERMS)}"
            raise InputError(f"{where}: option '{name}': unknown '{key}'{hint}")
    return _choice(group, name, terms, where) if "choices" in terms else _range(group, name, terms, where)


def _choice(group: type[Options], name: str, terms: Mapping[str, Any], where: str) -> Choice:
    values = terms["choices"]
    if len(terms) > 1 or not isinstance(values, list | tuple):
        raise InputError(f"{where}: option '{name}': choices must be a list, and stand alone, as in '[32, 64]'")
    if not values:
        raise InputError(f"{where}: option '{name}': choices are empty; give some, or leave the option out")
    parsed = tuple(group.parse_one(name, value, where) for value in values)
    for number, value in enumerate(parsed):
        if any(_same(value, other) for other in parsed[:number]):
            raise InputError(f"{where}: option '{name}': {value!r} stands there twice; leave one")
        if name == "finetune":
            try:
                parse_finetune(value)
            except InputError as error:
                raise InputError(f"{where}: option {error}") from error
    return Choice(parsed)


def _range(group: type[Options], name: str, terms: Mapping[str, Any], where: str) -> Range:
    annotation = group.model_fields[name].annotation
    kinds = {annotation, *get_args(annotation)}
    if not kinds & {int, float}:
        raise InputError(f"{where}: option '{name}' is no number; give choices, as in '{name}: [.., ..]'")
    if not {"low", "high"} <= terms.keys():
        raise InputError(f"{where}: option '{name}': give low and high, or choices")
    low, high = (group.parse_one(name, terms[end], where) for end in ("low", "high"))
    step, log = terms.get("step"), terms.get("log", False)
    whole = int in kinds
    if not isinstance(log, bool):
        raise InputError(f"{where}: option '{name}': log must be true or false (got {log!r})")
    if low is None or high is None or low > high:
        raise InputError(f"{where}: option '{name}': nothing lies between low {low} and high {high}; exchange them")
    if step is not None and (
        isinstance(step, bool) or not isinstance(step, int if whole else int | float) or not 0 < step < float("inf")
    ):
        raise InputError(
            f"{where}: option '{name}': step must be a {'whole ' if whole else ''}number above 0 (got {step!r})"
        )
    if log and step not in (None, *((1,) if whole else ())):
        raise InputError(f"{where}: option '{name}': log and a step do not go together; leave one out")
    if log and low <= 0:
        raise InputError(
            f"{where}: option '{name}': low must be above 0 where log is true (got {low}); give a higher low"
        )
    part = Range(low, high, step, log, whole)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # optuna moves a high that no number of steps leads to, and warns
            part.distribution()
    except UserWarning as error:
        raise InputError(
            f"{where}: option '{name}': no number of steps of {step} leads from {low} to {high}; change high"
        ) from error
    except ValueError as error:
        raise InputError(f"{where}: option '{name}': {error}") from error
    except ArithmeticError as error:  # optuna counts them in decimals of 28 digits
        raise InputError(
            f"{where}: option '{name}': too many steps of {step} lie between {low} and {high}; give a larger step"
        ) from error
    return part


def _same(value: Any, other: Any) -> bool:
    """Whether two values are one: True is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
