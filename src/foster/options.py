"""Options: pydantic models whose fields are the command line's flags and the keys of a ``--config`` file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from foster.errors import InputError, did_you_mean


def _split(value: Any) -> Any:
    """Take "a, b" for ("a", "b"), and numbers for their names."""
    if isinstance(value, str | int):
        value = [part.strip() for part in str(value).split(",")]
    return tuple(str(part) for part in value if part != "") if isinstance(value, list | tuple) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A list of names: comma-separated on the command line, a list or that in a file."""


MOST_SEED = 2**53
"""Largest seed: readers of JSON would round greater ones."""

MOST_RATE = 1e30
"""Largest learning rate or weight decay: optimisers compute with products that single precision has to hold."""


def _takes_bool(annotation: Any) -> bool:
    return annotation is bool or bool in get_args(annotation)


def flag_of(name: str) -> str:
    """Return the flag of an option."""
    return f"--{name.replace('_', '-')}"


def named(where: str, name: str) -> str:
    """Name an option and the place where its value is from: a flag says both."""
    return where if where == flag_of(name) else f"{where}: option '{name}'"


def in_our_words(message: str) -> str:
    """Return what pydantic says of a value as all errors here say it."""
    return message.replace("Input should be", "must be")


class Options(BaseModel):
    """Base of every group of options: immutable; an unknown key is an error, and so is a number that is not finite."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    later: ClassVar[Mapping[str, Any]] = {}
    """Fields that came after folders were first written, with the value that folders without them mean."""

    @property
    def unread(self) -> Mapping[str, str]:
        """Fields that have no effect beside the values of others, and why."""
        return {}

    @classmethod
    def stored(cls, values: Any, where: str) -> Self:
        """Build the options that a folder holds: each field is there, or it is one of ``later``.

        A default would say something of the folder that nobody wrote.

        Args:
            values: names and values.
            where: the file.

        Raises:
            InputError: a field is missing or unknown, or has a wrong value.
        """
        if isinstance(values, Mapping):
            values = {**cls.later, **values}
            if missing := [name for name in cls.model_fields if name not in values]:
                raise InputError(f"{where}: option '{missing[0]}' is missing; make or copy the folder again")
        return cls.parse(values, where, strict=True)

    @classmethod
    def parse(
        cls, values: Mapping[str, Any], source: str | Mapping[str, str] = "options", strict: bool = False
    ) -> Self:
        """Build the options from ``values``.

        Args:
            values: option names and values; absent ones keep their defaults.
            source: where the values come from (a file name, the command line), named in errors; one for all, or one for
                each option that was given.
            strict: take values of their types only, as folders hold them, and no text for a number.

        Raises:
            InputError: an unknown key (with a suggestion), or a value of the wrong type or out of range.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{source}: must hold names and values of options (got {values!r})")
        for name, option in cls.model_fields.items():
            if isinstance(value := values.get(name), bool) and not _takes_bool(option.annotation):
                where = source if isinstance(source, str) else source.get(name, "options")
                raise InputError(f"{named(where, name)}: must not be yes or no (got {value!r})")
        try:
            return cls.model_validate(dict(values), strict=strict)
        except ValidationError as error:
            first = error.errors()[0]
            message = in_our_words(first["msg"].removeprefix("Value error, "))
            if not first["loc"]:  # not one option is wrong, but how several go together; the message names them
                if isinstance(source, str):
                    places = {source}
                else:
                    given = {name: source[name] for name in values if name in source}
                    places = {"command line" if place == flag_of(name) else place for name, place in given.items()}
                raise InputError(f"{' and '.join(sorted(places)) or 'options'}: {message}") from error
            name = str(first["loc"][0])
            field = ".".join(str(part) for part in first["loc"])
            where = source if isinstance(source, str) else source.get(name, "options")
            if first["type"] == "extra_forbidden":
                hint = did_you_mean(field, cls.model_fields)
                known = "" if hint else f"; known are {', '.join(sorted(cls.model_fields))}"
                raise InputError(f"{where}: unknown option '{field}'{hint}{known}") from error
            raise InputError(f"{named(where, field)}: {message} (got {first['input']!r})") from error

    def over(self, defaults: Self) -> Self:
        """Return these options, with those of ``defaults`` in place of what was not set.

        Raises:
            InputError: they do not go together.
        """
        return type(self).parse({**defaults.model_dump(), **self.model_dump(include=self.model_fields_set)})

    @classmethod
    def parse_one(cls, name: str, value: Any, source: str) -> Any:
        """Return the value of one option, whatever the others are.

        Raises:
            InputError: it is of the wrong type or out of range.
        """
        option = cls.model_fields[name]
        if isinstance(value, bool) and not _takes_bool(option.annotation):
            raise InputError(f"{source}: option '{name}': must not be yes or no (got {value!r})")
        kind: Any = option.annotation
        if option.metadata:
            kind = Annotated[(kind, *option.metadata)]
        try:
            return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            message = in_our_words(error.errors()[0]["msg"])
            raise InputError(f"{source}: option '{name}': {message} (got {value!r})") from error
