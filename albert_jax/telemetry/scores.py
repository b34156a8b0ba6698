"""What a score is: one value that tables, curves, the progress line and early stopping all read.

A task declares its scores; a workdir keeps them in scores.json, so that reports and comparisons need not open the task.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax.files import read_json, reading, write_json

FILE = "scores.json"


@dataclass(frozen=True)
class Score:
    """A number that an evaluation gives.

    Attributes:
      name: in records and files
      label: on tables, curves and the progress line; empty takes the name with spaces
      format: as Python formats the number, such as ".3f" or ".1%"
      higher_is_better: which way a better model goes
      baseline: what a model that looks at nothing reaches; None where nobody knows
      against: what that baseline is, such as "majority class"
      headline: shown on the progress line and as a tile and a curve of the report
    """

    name: str
    label: str = ""
    format: str = ".4f"
    higher_is_better: bool = True
    baseline: float | None = None
    against: str = ""
    headline: bool = False

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ")

    @property
    def is_share(self) -> bool:
        """Whether it is shown as percent."""
        return self.format.endswith("%")

    def text(self, value: float) -> str:
        """The value as people read it."""
        return format(value, self.format)

    def with_baseline(self, baseline: float | None, against: str = "") -> "Score":
        """Itself with a baseline, where one is known; `against` as before where none is given."""
        if baseline is None:
            return self
        return dataclasses.replace(self, baseline=baseline, against=against or self.against)


def loss(name: str = "loss", label: str = "", **rest: Any) -> Score:
    """A score in nats of which less is better."""
    return Score(name, label, higher_is_better=False, **rest)


def share(name: str, label: str = "", **rest: Any) -> Score:
    """A score from 0 to 1 that is shown as percent, such as an accuracy."""
    return Score(name, label, ".1%", **rest)


# Scores of workdirs that were written before scores.json was: by name.
_KNOWN = {
    score.name: score
    for score in (
        loss("loss", headline=True),
        loss("mlm_loss", "MLM loss"),
        loss("order_loss", "order loss"),
        share("mlm_accuracy", "MLM accuracy", headline=True),
        share("order_accuracy", "order accuracy", baseline=0.5, against="chance", headline=True),
        share("accuracy", headline=True),
        Score("precision", format=".3f"),
        Score("recall", format=".3f"),
        Score("f1", "entity F1", ".3f", headline=True),
        Score("f1_micro", "micro F1", ".3f", headline=True),
        Score("f1_macro", "macro F1", ".3f", headline=True),
        Score("pearson", "Pearson", ".3f", headline=True),
        Score("spearman", "Spearman", ".3f"),
        Score("rmse", "RMSE", higher_is_better=False),
    )
}
# Files of the same age call a baseline by what it is.
_OLD_BASELINES = {
    "mlm_accuracy": ("unigram_accuracy", "unigram"),
    "mlm_loss": ("unigram_entropy", "unigram entropy"),
    "accuracy": ("majority_accuracy", "majority class"),
}


def of_name(name: str, old_baselines: Mapping[str, float] | None = None) -> Score:
    """The score that an older workdir calls `name`."""
    score = _KNOWN.get(name) or Score(name)
    key, against = _OLD_BASELINES.get(name, ("", ""))
    if old_baselines and key in old_baselines:
        score = score.with_baseline(old_baselines[key], against)
    return score


def write_scores(workdir: Path, scores: Iterable[Score]) -> None:
    """Stores what a workdir's scores are."""
    write_json(workdir / FILE, [dataclasses.asdict(score) for score in scores])


def read_scores(workdir: Path, old_baselines: Mapping[str, float]) -> dict[str, Score]:
    """Name -> score of a workdir; of an older one those that this package has always had.

    Raises AlbertError when the file is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return {name: of_name(name, old_baselines) for name in _KNOWN}
    advice = "run train again, which writes it"
    stored = read_json(path, advice)
    with reading(path, advice):
        return {each["name"]: Score(**each) for each in stored}
