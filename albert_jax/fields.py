"""Fields of configurations: what is known about each stands beside it, as metadata of its dataclass field.

batch_size: int = knob(32, at_least=1)         # its range, checked in one moment by `check`
data: str = knob("", free=True, local=True)    # may change when a run is continued; processes may differ in it
"""

import dataclasses
import functools
import json
import math
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import tyro

from albert_jax.errors import refuse

# ---- metadata


def knob(
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Any = dataclasses.MISSING,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    advice: str = "",
    free: bool = False,
    local: bool = False,
    older: Any = dataclasses.MISSING,
) -> Any:
    """A dataclass field with what the project knows about it.

    Args:
      default, default_factory: as of `dataclasses.field`
      at_least, above, at_most, below: the range of a number, or of every number of a tuple
      advice: what to do about a number out of that range; empty for a sentence that gives the range
      free: a run that is continued may have another value: it says where and how fast, not what is computed
      local: processes of one run may have different values, such as the places of files
      older: what a stored file means that is from before there was the field; where none is given, the default
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    known: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    known |= {"advice": advice, "free": free, "local": local}
    if older is not dataclasses.MISSING:
        known["older"] = older
    return dataclasses.field(default=default, default_factory=default_factory, metadata=known)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def check(value: Any, path: str = "") -> None:
    """Raises AlbertError for the first number of a configuration that is out of its range or not finite, and for a
    choice that is none of its type's. `path` is what the configuration is called, such as "model"."""
    refuse(_flaws(value, path))


def _flaws(value: Any, path: str) -> Iterator[str]:
    kind: Any = type(value)
    for field in dataclasses.fields(value):
        item, name = getattr(value, field.name), f"{path}.{field.name}" if path else field.name
        hint = _hints(kind)[field.name]
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        if choices and item not in choices:
            yield f"{name} is {item!r}; choose one of {', '.join(map(repr, choices))}"
        if dataclasses.is_dataclass(item):
            yield from _flaws(item, name)
        # A tuple of numbers has one range for all of them.
        for number in item if isinstance(item, tuple) else (item,):
            # True is an int for isinstance, and has no range.
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                yield from _out_of_range(name, number, field.metadata)


def _out_of_range(name: str, value: float, known: typing.Mapping[str, Any]) -> Iterator[str]:
    low, above = known.get("at_least", -math.inf), known.get("above", -math.inf)
    high, below = known.get("at_most", math.inf), known.get("below", math.inf)
    # Written as what must hold, not as what must not: NaN fails every comparison and so every range.
    if math.isfinite(value) and low <= value and above < value <= high and value < below:
        return
    if known.get("advice"):
        yield f"{name} is {value:g}; {known['advice']}"
    both = max(low, above) > -math.inf and min(high, below) < math.inf
    if both:
        ends = ("(" if above > low else "[", max(low, above), min(high, below), ")" if below <= high else "]")
        yield "{name} is {value:g}; it must lie in {0}{1:g}, {2:g}{3}".format(*ends, name=name, value=value)
    rule = (
        "not be negative" if low == 0
        else f"be at least {low:g}" if low > -math.inf
        else f"be above {above:g}" if above > -math.inf
        else f"be at most {high:g}" if high < math.inf
        else f"be below {below:g}" if below < math.inf
        else "be a finite number"
    )  # fmt: skip
    yield f"{name} is {value:g}; it must {rule}"


def as_before(asked: Any, stored: Any) -> Any:
    """`asked` with what `stored` means by fields that it is from before (`older`), where `asked` has their defaults."""
    # By name: a kind of one's own is another class in the config than in the copy that a workdir has of it.
    if type(asked).__name__ != type(stored).__name__:
        return asked
    changed = {}
    for field in dataclasses.fields(asked):
        now = getattr(asked, field.name)
        old = getattr(stored, field.name, now)
        if dataclasses.is_dataclass(now):
            if (before := as_before(now, old)) is not now:
                changed[field.name] = before
        elif "older" in field.metadata and old == field.metadata["older"] and now == field.default:
            changed[field.name] = old
    # Itself where nothing changes: what a class of one's own keeps beside its fields would be lost in a copy.
    return dataclasses.replace(asked, **changed) if changed else asked


def leaves(
    value: Any, path: str = "", free: bool = False, local: bool = False
) -> Iterator[tuple[str, Any, bool, bool]]:
    """(path, value, free, local) of every field of a tree of configurations. A field of a free (local) configuration is
    free (local) too, and so is "kind", the name of a configuration's class."""
    # The class counts as a field: AdamW in the place of Lamb is another experiment even where all their fields agree.
    yield f"{path}.kind" if path else "kind", type(value).__name__, free, local
    for field in dataclasses.fields(value):
        item, name = getattr(value, field.name), f"{path}.{field.name}" if path else field.name
        marks = free or field.metadata.get("free", False), local or field.metadata.get("local", False)
        if dataclasses.is_dataclass(item):
            yield from leaves(item, name, *marks)
        else:
            yield name, item, *marks


# ---- types that a command line gives as JSON


def _json_mapping(
    read_value: Callable[[Any], Any], metavar: str
) -> tyro.constructors.PrimitiveConstructorSpec[dict[str, Any]]:
    """A field given as a JSON object; `read_value` raises TypeError for a value that does not belong there."""

    def read(words: list[str]) -> dict[str, Any]:
        try:
            return {key: read_value(v) for key, v in json.loads(words[0]).items()}
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error.msg})") from error  # tyro shows a ValueError as its own complaint
        except (AttributeError, TypeError) as error:
            raise ValueError(f"expected {metavar}") from error

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError
        return kinds[-1](value)

    return read


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return tuple(value)


JsonRates = Annotated[dict[str, float], _json_mapping(_exactly(int, float), '{"PATTERN": FACTOR, ...}')]
JsonSizes = Annotated[dict[str, int], _json_mapping(_exactly(int), '{"AXIS": SIZE, ...}')]
JsonNames = Annotated[dict[str, tuple[str, ...]], _json_mapping(_names, '{"AXIS": ["NAME", ...], ...}')]
