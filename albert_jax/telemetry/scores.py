"""What a score is: one value that tables, curves, the progress line and early stopping all read.

A task declares its scores; a workdir keeps them in scores.json, so that reports and comparisons need not open the task.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax.errors import retold
from albert_jax.files import read_json, read_object, reading, write_json
from albert_jax.telemetry.tables import format_count

FILE = "scores.json"
OLD_BASELINES = "baselines.json"  # of a workdir from before there was a scores.json


@dataclass(frozen=True)
class Score:
    """A number that an evaluation gives, or that a run measures about itself. Raises AlbertError for a wrong format."""

    name: str  # in records and files
    label: str = ""  # in reports and on the progress line; empty takes the name with spaces
    format: str = ".4f"  # as Python formats the number, such as ".3f" or ".1%"; "si" writes 15.2k
    higher_is_better: bool = True
    baseline: float | None = None  # what a model that looks at nothing reaches; None where nobody knows
    against: str = ""  # what that baseline is, such as "majority class"; a score that has one gets a curve
    headline: bool = False  # shown on the progress line and as a tile and a curve of the report
    chart: str = ""  # title of the curve; empty takes the label
    unit: str = ""  # follows the number, and on the progress line stands for the label
    ranks: bool = False  # picks the best checkpoint of the run

    def __post_init__(self) -> None:
        # Try the format where it is declared: a typo would otherwise end a run at its first record.
        with retold(lambda message: f"score {self.name!r}: {message}; give a format such as .3f or .1%", ValueError):
            self.text(0.0)

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ")

    @property
    def chart_title(self) -> str:
        return self.chart or self.title[:1].upper() + self.title[1:]

    @property
    def is_share(self) -> bool:
        """Whether it is shown as percent."""
        return self.format.endswith("%")

    def text(self, value: float) -> str:
        """The value as people read it."""
        return (format_count(value) if self.format == "si" else format(value, self.format)) + self.unit

    @property
    def baseline_text(self) -> str:
        """Such as "chance 50.0%"; empty without a baseline."""
        short = self.format if self.is_share else ".2f"
        return "" if self.baseline is None else f"{self.against or 'baseline'} {format(self.baseline, short)}"

    def on_line(self, value: float) -> str:
        """Label and value as the progress line has them."""
        # The line is short of columns, and its percent sign says that "MLM 21.3%" is an accuracy.
        label = "" if self.unit else self.title.removesuffix(" accuracy")
        return f"{label} {self.text(value)}".strip()

    def with_baseline(self, baseline: float | None, against: str = "") -> "Score":
        """Itself with a baseline, where one is known; `against` as before where none is given."""
        if baseline is None:
            return self
        # float(): a NumPy number could not be written to scores.json.
        return dataclasses.replace(self, baseline=float(baseline), against=against or self.against)


def loss(name: str = "loss", label: str = "", **rest: Any) -> Score:
    """A score in nats of which less is better."""
    score = Score(name, label, higher_is_better=False, **rest)
    return dataclasses.replace(score, chart=score.chart or f"{score.chart_title} (nats)")


def share(name: str, label: str = "", **rest: Any) -> Score:
    """A score from 0 to 1 that is shown as percent, such as an accuracy."""
    return Score(name, label, **{"format": ".1%"} | rest)


# What a run measures about itself: no task declares these, and every task has them.
LEARNING_RATE = Score("learning_rate", "rate", ".2e", chart="Learning rate")
THROUGHPUT = Score("tokens_per_second", "tokens/s", "si", chart="Throughput (tokens/s)", unit=" tokens/s")
MEASURES = (
    LEARNING_RATE,
    THROUGHPUT,
    Score("model_flops_per_second", format="si", unit="FLOP/s"),
    share("peak_share", "MFU", format=".0%"),
    share("data_wait_share", "data wait", format=".0%", higher_is_better=False),
)

# The scores of the tasks of this package, by name: for workdirs that were written before scores.json was.
KNOWN = {
    score.name: score
    for score in (
        loss("loss", headline=True),
        loss("mlm_loss", "MLM loss", against="unigram entropy"),
        loss("order_loss", "order loss"),
        share("mlm_accuracy", "MLM accuracy", against="unigram", headline=True),
        share("order_accuracy", "order accuracy", baseline=0.5, against="chance", headline=True),
        share("accuracy", against="majority class", headline=True),
        Score("precision", format=".3f"),
        Score("recall", format=".3f"),
        Score("f1", "entity F1", ".3f", headline=True, chart="F1 over entities"),
        Score("f1_micro", "micro F1", ".3f", headline=True),
        Score("f1_macro", "macro F1", ".3f", headline=True, chart="F1, mean over classes"),
        Score("pearson", "Pearson", ".3f", headline=True, chart="Pearson correlation"),
        Score("spearman", "Spearman", ".3f"),
        Score("rmse", "RMSE", higher_is_better=False),
    )
}
# Files of the same age call a baseline by what it is, not by its score.
_OLD_NAMES = {"mlm_accuracy": "unigram_accuracy", "mlm_loss": "unigram_entropy", "accuracy": "majority_accuracy"}


def filled(score: Score, baselines: Mapping[str, float], against: Mapping[str, str] | None = None) -> Score:
    """`score` with its baseline, where `baselines` have one under its name or under the one in older files; `against`
    says what each is."""
    value = baselines.get(score.name, baselines.get(_OLD_NAMES.get(score.name, "")))
    return score.with_baseline(value, (against or {}).get(score.name, ""))


def of_name(name: str, baselines: Mapping[str, float] | None = None) -> Score:
    """The score that this package, or else a user, calls `name`."""
    return filled(KNOWN.get(name) or Score(name), baselines or {})


def write_scores(workdir: str | Path, scores: Iterable[Score]) -> None:
    """Stores what a workdir's scores are, baselines included."""
    write_json(Path(workdir) / FILE, [dataclasses.asdict(score) for score in scores])


def read_scores(workdir: str | Path) -> dict[str, Score]:
    """Name -> score of a workdir; of an older one those that this package knows, with the baselines stored there.

    Raises AlbertError when a file is damaged.
    """
    path, older = Path(workdir) / FILE, Path(workdir) / OLD_BASELINES
    advice = "run train again, which writes it"
    if not path.exists():
        baselines = read_object(older, advice) if older.exists() else {}
        return {name: filled(score, baselines) for name, score in KNOWN.items()}
    stored = read_json(path, advice)
    with reading(path, advice):
        return {each["name"]: Score(**each) for each in stored}
