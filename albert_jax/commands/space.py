"""What a search tries: fields of an experiment and the values that each may take.

optim.peak_lr=log(1e-5,1e-4)     a number between the two, drawn evenly on a logarithmic scale
optim.weight_decay=uniform(0,0.1)     a number between the two
steps=int(100,500)               a whole number between the two, both included
batch_size=[16,32]               one of a list: numbers, true and false, words, or JSON
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from albert_jax.commands.args import parse
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment

_NAME = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*=\s*")
_RANGE = re.compile(r"(log|uniform|int)\(([^()]*)\)")
_LIST = re.compile(r"\[([^\[\]]*)\]")
_SCORE = ("stopping.score", "task.target")  # fields that decide what a score means: trials could not be compared

Value = float | int | str | bool


@dataclass(frozen=True)
class Dimension:
    """One field. `choices` of a list, `low` and `high` of the rest; `said` is how the user wrote it."""

    field: str
    kind: Literal["log", "uniform", "int", "list"]
    said: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Value, ...] = ()

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that stand for all: the ends of a range, every choice of a list."""
        if self.kind == "list":
            return self.choices
        return (int(self.low), int(self.high)) if self.kind == "int" else (self.low, self.high)

    def suggest(self, trial: Any) -> Value:
        """The value of an Optuna trial: what it has drawn before, or draws now."""
        if self.kind == "list":
            return trial.suggest_categorical(self.field, self.choices)
        if self.kind == "int":
            return trial.suggest_int(self.field, int(self.low), int(self.high))
        return trial.suggest_float(self.field, self.low, self.high, log=self.kind == "log")


def read_space(text: str, experiment: Experiment) -> list[Dimension]:
    """The dimensions that `text` names, separated by white space, checked against the fields of `experiment`.

    Raises AlbertError, naming the dimension: what cannot be read, a field that there is not (the nearest are named) or
    that is named twice, an empty range or list, a logarithm of 0 or less, a value of another type than the field's.
    """
    found: list[Dimension] = []
    place = 0
    while text[place:].strip():
        name = _NAME.match(text, place)
        if name is None:
            raise _unread(text[place:].split()[0])
        dimension, place = _dimension(name[1].replace("-", "_"), text, name.start(1), name.end())
        if dimension.field in {other.field for other in found}:
            raise AlbertError(f"--space names {dimension.field} twice; leave one of them out")
        _check(dimension, experiment)
        found.append(dimension)
    if not found:
        raise AlbertError('--space is empty; give fields and values, such as --space "optim.peak_lr=log(1e-5,1e-4)"')
    return found


def apply(experiment: Experiment, values: Mapping[str, Value]) -> Experiment:
    """`experiment` with fields set by path. Raises AlbertError for a field that there is not, or a value of another
    type."""
    words = []
    for field, value in values.items():
        flag = "--" + field.replace("_", "-")
        if isinstance(value, bool):
            *parents, last = flag[2:].split(".")
            words.append(flag if value else "--" + ".".join([*parents, f"no-{last}"]))
        else:
            words.append(f"{flag}={value!r}" if isinstance(value, float) else f"{flag}={value}")
    return parse(Experiment, words, prog="albert_jax search", default=experiment)


def _dimension(field: str, text: str, start: int, place: int) -> tuple[Dimension, int]:
    """The dimension whose value begins at `place` of `text`, and where it ends."""
    if text[place : place + 1] == "[":
        try:
            values, end = json.JSONDecoder().raw_decode(text, place)
        except ValueError:
            words = _LIST.match(text, place)
            if words is None:
                raise _unread(text[start:]) from None
            values, end = [word.strip(" \t\n\"'") for word in words[1].split(",")], words.end()
        choices = tuple(v if isinstance(v, (int, float, str)) else json.dumps(v) for v in values)
        if not choices or "" in choices:
            raise AlbertError(f"--space {text[start:end]}: the list is empty or has a gap; give its values")
        if len(set(map(repr, choices))) < len(choices):
            raise AlbertError(f"--space {text[start:end]}: a value stands twice in the list; leave one out")
        return Dimension(field, "list", text[start:end], choices=choices), end
    found = _RANGE.match(text, place)
    if found is None:
        raise _unread(text[start:].split()[0])
    said, kind = text[start : found.end()], found[1]
    ends = [part.strip() for part in found[2].split(",")]
    try:
        low, high = (int(end) if kind == "int" else float(end) for end in ends)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError
    except ValueError:
        number = "whole number" if kind == "int" else "number"
        raise AlbertError(f"--space {said}: give a {number}, a comma and a larger {number}") from None
    if low >= high:
        raise AlbertError(f"--space {said}: the range is empty; give the smaller end first, then a larger one")
    if kind == "log" and low <= 0:
        raise AlbertError(
            f"--space {said}: {low:g} has no logarithm; begin above 0, or write uniform({low:g},{high:g})"
        )
    return Dimension(field, kind, said, low, high), found.end()  # type: ignore[arg-type]


def _value(part: Any, field: str) -> Any:
    """What `field` is now; None where there is no such field."""
    for name in field.split("."):
        part = getattr(part, name, None)
    return part


def _unread(part: str) -> AlbertError:
    return AlbertError(
        f"--space: cannot read {part[:60]!r}; write FIELD=log(LOW,HIGH), FIELD=uniform(LOW,HIGH), FIELD=int(LOW,HIGH) "
        "or FIELD=[ONE,OTHER], a space between two of them"
    )


def _check(dimension: Dimension, experiment: Experiment) -> None:
    if dimension.field in _SCORE:
        raise AlbertError(f"--space {dimension.said}: the field decides what is compared; search without it")
    for value in dimension.ends:
        try:
            apply(experiment, {dimension.field: value})
        except AlbertError as error:
            now = _value(experiment, dimension.field)
            if dimension.kind in ("log", "uniform") and type(now) is int:
                meant = f"{dimension.field}=int({dimension.low:.0f},{dimension.high:.0f}) or a list of them"
                raise AlbertError(f"--space {dimension.said}: the field takes whole numbers; write {meant}") from error
            raise AlbertError(f"--space {dimension.said}: {error}") from error
