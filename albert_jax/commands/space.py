"""What a search tries: fields of an experiment and the values that each may take. As words of --space,

optim.peak_lr=log(1e-5,1e-4)          a number between the two, drawn evenly on a logarithmic scale
optim.weight_decay=uniform(0,0.1)     a number between the two
steps=int(100,500)                    a whole number between the two, both included
batch_size=[16,32]                    one of a list: numbers, true and false, words, or JSON

or as a function of the config file, where one value may depend on another:

    def search_space(trial):  # an Optuna trial -> field -> value
        return {"optim.peak_lr": trial.suggest_float("optim.peak_lr", 1e-5, 1e-4, log=True)}
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from albert_jax.commands.args import parse
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.experiment import Experiment

Value = float | int | str | bool
Function = Callable[[Any], Mapping[str, Any]]

_SCORE = ("stopping.score", "task.target")  # fields that decide what a score means: trials could not be compared
_NAME = r"[A-Za-z_][\w.-]*"
_DIMENSION = re.compile(rf"({_NAME})\s*=\s*(?:(log|uniform|int)\(([^()]*)\)|(\[.*\]))", re.DOTALL)


def open_space(space: str | Function, experiment: Experiment) -> tuple[Function, list[str], list[Mapping[str, Any]]]:
    """Of --space, or of a config's function: a function that draws the values of a trial; what tells the space from
    another search's; values that stand for all, to be checked before the first trial.

    Raises AlbertError for words that `read_space` refuses and a function that fails.
    """
    if isinstance(space, str):
        dimensions = read_space(space, experiment)
        first = {dimension.field: dimension.ends[0] for dimension in dimensions}
        samples: list[Mapping[str, Any]] = [first | {d.field: value} for d in dimensions for value in d.ends]
        texts = sorted(dimension.text for dimension in dimensions)
        return lambda trial: {d.field: d.suggest(trial) for d in dimensions}, texts, samples
    import optuna

    def draw(trial: Any) -> Mapping[str, Any]:
        with retold(lambda message: f"search_space(trial) of the config failed: {message}", Exception):
            return dict(space(trial))

    # What a function draws shows only when it runs: here on a trial of a study that is not kept.
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    sample = draw(trial)
    return draw, sorted(f"{field}={drawn}" for field, drawn in trial.distributions.items()), [sample]


def apply(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """`experiment` with fields set by path. Raises AlbertError for a field that does not exist or must not be searched,
    or a value of another type."""
    refuse(f"{field}: the field decides what is compared; search without it" for field in values if field in _SCORE)
    # As words of the command line, which knows the type of each field and the nearest ones of an unknown field.
    words = []
    for field, value in values.items():
        *parents, last = field.replace("_", "-").split(".")
        if isinstance(value, bool):
            words.append("--" + ".".join([*parents, last if value else f"no-{last}"]))
        else:
            words.append(f"--{'.'.join([*parents, last])}={json.dumps(value) if isinstance(value, dict) else value}")
    return parse(Experiment, words, prog="albert_jax search", default=experiment)


@dataclass(frozen=True)
class Dimension:
    field: str
    kind: str  # "log", "uniform", "int" or "list"
    ends: tuple[Value, ...]  # the two of a range, every choice of a list
    text: str  # as the user wrote it

    def suggest(self, trial: Any) -> Value:
        """The value of an Optuna trial: what it has drawn before, or draws now."""
        if self.kind == "list":
            return trial.suggest_categorical(self.field, self.ends)
        if self.kind == "int":
            return trial.suggest_int(self.field, *self.ends)
        return trial.suggest_float(self.field, *self.ends, log=self.kind == "log")


def read_space(text: str, experiment: Experiment) -> list[Dimension]:
    """The dimensions that `text` names, separated by white space, checked against the fields of `experiment`.

    Raises AlbertError, naming the dimension: what cannot be read, a field that does not exist (the nearest are named)
    or is named twice, an empty range or list, a logarithm of 0 or less, a value of another type than the field's.
    """
    # White space may stand within a dimension too: the next one begins where a name and "=" follow.
    parts = re.split(rf"\s+(?={_NAME}\s*=)", text.strip())
    dimensions = [_dimension(part) for part in parts if part]
    if not dimensions:
        raise AlbertError('--space is empty; give fields and values, such as --space "optim.peak_lr=log(1e-5,1e-4)"')
    fields = [dimension.field for dimension in dimensions]
    refuse(f"--space names {field} twice; leave one of them out" for field in fields if fields.count(field) > 1)
    for dimension in dimensions:
        refuse(f"--space {dimension.text}: {flaw}" for flaw in _flaws(dimension, experiment))
    return dimensions


def _dimension(text: str) -> Dimension:
    if (found := _DIMENSION.fullmatch(text)) is None:
        raise AlbertError(
            f"--space: cannot read {text[:60]!r}; write FIELD=log(LOW,HIGH), FIELD=uniform(LOW,HIGH), "
            "FIELD=int(LOW,HIGH) or FIELD=[ONE,OTHER], a space between two of them"
        )
    field, kind, ends, choices = found[1].replace("-", "_"), found[2], found[3], found[4]
    if kind:
        number, read = ("whole number", int) if kind == "int" else ("number", float)
        with retold(lambda _: f"--space {text}: give a {number}, a comma and a larger {number}", ValueError):
            low, high = map(read, ends.split(","))
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError
        return Dimension(field, kind, (low, high), text)
    try:
        values = json.loads(choices)
    except ValueError:  # words without quotes
        values = [word.strip(" \t\n\"'") for word in choices[1:-1].split(",")]
    # Optuna stores numbers and words; what is neither, such as an object, stays JSON.
    values = tuple(value if isinstance(value, (int, float, str)) else json.dumps(value) for value in values)
    return Dimension(field, "list", values, text)


def _flaws(dimension: Dimension, experiment: Experiment) -> Iterator[str]:
    field, kind, ends = dimension.field, dimension.kind, dimension.ends
    if kind == "list":
        if not ends or "" in ends:
            yield "the list is empty or has a gap; give its values"
        if len(set(map(repr, ends))) < len(ends):
            yield "a value stands twice in the list; leave one out"
    else:
        low, high = map(float, ends)
        if low >= high:
            yield "the range is empty; give the smaller end first, then a larger one"
        if kind == "log" and low <= 0:
            yield f"{low:g} has no logarithm; begin above 0, or write uniform({low:g},{high:g})"
    for value in ends:
        try:
            apply(experiment, {field: value})
        except AlbertError as error:
            if kind in ("log", "uniform") and "invalid literal for int" in str(error):
                yield f"the field takes whole numbers; write {field}=int({low:.0f},{high:.0f}) or a list of them"
            yield str(error)
