"""Merged options of one call: defaults, then a file, then flags."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import Field, TypeAdapter, ValidationError

from foster.cli.output import say
from foster.errors import InputError, did_you_mean
from foster.options import MOST_SEED, Options, flag_of, in_our_words, named

T = TypeVar("T", bound=Options)


class CommonOptions(Options):
    """What every verb takes."""

    seed: int = Field(0, ge=0, le=MOST_SEED, description="of everything that is drawn")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps, ...")


class Values:
    """Merged options of one call: defaults, then the ``--config`` file, then flags.

    Args:
        groups: option classes of the verb.
        own: options of the verb alone.
        file: the ``--config`` file.
        flags: values of both by name, None for what was not given.
        partial: whether an option that is required may be missing.
    """

    def __init__(
        self,
        groups: tuple[type[Options], ...],
        own: Mapping[str, inspect.Parameter],
        file: Path | None,
        flags: Mapping[str, Any],
        partial: bool = False,
    ) -> None:
        known = {name for group in groups for name in group.model_fields} | own.keys()
        config = read_yaml(file, "--config", "steps: 500") if file else {}
        config = {key.replace("-", "_"): value for key, value in config.items()}
        for key in config:
            if key not in known:
                hint = did_you_mean(key, known) or f"; known are {', '.join(sorted(known))}"
                raise InputError(f"{file}: unknown option '{key}'{hint}")
        # A flag that can be repeated is an empty list where it was not given.
        given = {key: value for key, value in flags.items() if value is not None and value != []}
        needed = {
            key: option
            for key, option in own.items()
            if not partial or key in given or key in config or option.default is not inspect.Parameter.empty
        }
        own_values = {
            key: given[key] if key in given else _own_value(option, config, file) for key, option in needed.items()
        }
        self.own: dict[str, Any] = {key: _at_home(value) for key, value in own_values.items()}
        self._given = {key: value for key, value in {**config, **given}.items() if key not in own}
        # An error names the file only for what the file says.
        self._sources = dict.fromkeys(config, str(file)) | {key: flag_of(key) for key in given}

    @property
    def given(self) -> frozenset[str]:
        """The options of the groups that the file or a flag gives."""
        return frozenset(self._given)

    def of(self, group: type[T], defaults: Options | None = None) -> T:
        """Return one group's options; ``defaults`` stand in for what the user did not set.

        What the user set without any effect is said, but for a default, which files that ``foster config`` prints hold.
        """
        base = defaults.model_dump() if defaults is not None else {}
        chosen = {name: self._given[name] for name in group.model_fields if name in self._given}
        options = group.parse({**base, **chosen}, self._sources)
        for name, reason in options.unread.items():
            if name in chosen and getattr(options, name) != group.model_fields[name].default:
                say(f"{named(self._sources[name], name)}: has no effect, since {reason}; leave it out")
        return options

    def only(self, group: type[T], name: str) -> T:
        """Return one of several groups of which one counts; what belongs to another one is an error."""
        for key in self._given:
            if key not in group.model_fields and key not in CommonOptions.model_fields:
                own = ", ".join(sorted(group.model_fields))
                raise InputError(f"{named(self._sources[key], key)} is none of {name}'s; these are {own}")
        return self.of(group)

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Raise InputError if the user set one of the options, each with the reason why it has no meaning here."""
        for key, reason in reasons.items():
            if key in self._given:
                raise InputError(f"{named(self._sources[key], key)}: {reason}")


def read_yaml(path: Path, flag: str, example: str) -> dict[str, Any]:
    """Read names and values from a YAML file.

    Args:
        path: the file.
        flag: the flag that names it, for errors.
        example: a line of such a file, for errors.

    Raises:
        InputError: it cannot be read, is no YAML, holds no names and values, or a name twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice, of which the usual loader takes the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            merge = "tag:yaml.org,2002:merge"  # what is merged is meant to be overridden
            keys = [str(self.construct_object(k, deep=True)) for k, _ in node.value if k.tag != merge]  # type: ignore[no-untyped-call]
            for key in keys:
                if [other.replace("-", "_") for other in keys].count(key.replace("-", "_")) > 1:
                    raise InputError(f"{flag} {path}: '{key}' stands there twice; leave one")
            return super().construct_mapping(node, deep)

    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, without an end
            raise InputError(f"{flag} {path}: is no file; give a YAML file")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be read ({error.strerror})") from error
    except InputError:
        raise
    # Dates, numbers and truth values that there are not: the loader has no errors of its own for them.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reason = (str(error).splitlines() or ["?"])[0]
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            reason = f"row {error.problem_mark.line + 1}: {error.problem or error.context}"
        if isinstance(error, RecursionError):
            reason = "nested too deeply"
        if isinstance(error, AttributeError | LookupError):
            reason = "a value is not what its tag says"
        raise InputError(f"{flag} {path}: is no valid YAML ({reason})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{flag} {path}: must hold names and values, as in '{example}'")
    return {str(key): value for key, value in content.items()}


def _own_value(parameter: inspect.Parameter, config: Mapping[str, Any], file: Path | None) -> Any:
    """Return what a file or else the default says of an option that belongs to a verb alone."""
    name = parameter.name
    kind, option = get_args(parameter.annotation)
    if name in config:
        value = config[name]
        if kind in (list[str], list[str] | None) and isinstance(value, str):
            value = [value]
        if name == "time_column" and isinstance(value, list):
            value = ",".join(map(str, value))
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            message = in_our_words(error.errors()[0]["msg"])
            raise InputError(f"{file}: option '{name}': {message} (got {config[name]!r})") from error
    if parameter.default is inspect.Parameter.empty:
        raise InputError(f"{flag_of(name)} is missing: {option.help}")
    return parameter.default


def _at_home(value: Any) -> Any:
    """Return a path with the user's folder in place of ``~``, which shells put in on a command line only."""
    try:
        return value.expanduser() if isinstance(value, Path) and value.parts[:1] == ("~",) else value
    except RuntimeError as error:
        raise InputError(f"{value}: this user has no home; give the path without ~") from error
