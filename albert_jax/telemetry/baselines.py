"""Plain models that a run is judged by: their scores on a split, the file that keeps them, and the verdict.

`albert_jax/tasks/baselines.py` fits them; here is what records, tables and reports know of them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from albert_jax.errors import AlbertError, first_line
from albert_jax.files import DAMAGE, read_object, write_json
from albert_jax.telemetry.scores import Score


@dataclass(frozen=True)
class Baseline:
    """What one plain model reaches on a split."""

    name: str  # such as "TF-IDF + logistic regression"
    scores: dict[str, float]  # those of the task that mean something for it
    note: str = ""  # what else to know, such as how much of the training data it saw


@dataclass(frozen=True)
class Plain:
    """The plain models of a task on a split, before anyone has fitted them."""

    key: str  # a digest of all that their scores depend on: with the same key they need not be fitted again
    fit: Callable[[], list[Baseline]]


def file_of(workdir: str | Path, split: str) -> Path:
    """Not baselines.json, which workdirs from before scores.json have (`albert_jax.telemetry.scores`)."""
    return Path(workdir) / f"baselines-{split}.json"


def fitted(workdir: str | Path, split: str, plain: Plain | None) -> tuple[list[Baseline], list[str]]:
    """The baselines of a split, from the workdir where they are stored there, else fitted and stored; and what to tell
    where there are none although the task has some: a run does not end because a baseline cannot be had."""
    if plain is None:
        return [], []
    path = file_of(workdir, split)
    if stored := _stored(path, plain.key):
        return stored, []
    try:
        found = plain.fit()
    except (AlbertError, ValueError) as error:  # the training data is gone, or nothing that scikit-learn could fit
        return [], [f"no plain baselines beside these scores ({first_line(error)})"]
    write_json(path, {"key": plain.key, "baselines": [dataclasses.asdict(baseline) for baseline in found]})
    return found, []


def _stored(path: Path, key: str) -> list[Baseline]:
    """What the file has under `key`; nothing where it has not, or is damaged: it is written anew then."""
    try:
        stored = read_object(path, "")
        return [Baseline(**each) for each in stored["baselines"]] if stored["key"] == key else []
    except (AlbertError, *DAMAGE):
        return []


def read_stored(workdir: str | Path, split: str) -> list[Baseline]:
    """The baselines that a workdir keeps of a split, whatever data they are of; nothing where it has none.

    Raises AlbertError when the file is damaged.
    """
    path = file_of(workdir, split)
    if not path.exists():
        return []
    advice = "delete it; the next evaluation writes it anew"
    stored = read_object(path, advice)
    try:
        return [Baseline(**each) for each in stored["baselines"]]
    except DAMAGE as error:
        raise AlbertError(f"{path} is damaged ({first_line(error)}); {advice}") from error


def best_of(scores: Iterable[Score], declared: Mapping[str, float], plain: Iterable[Baseline]) -> dict[str, Score]:
    """Score name -> that score with the best of its baselines, for those that have any.

    Args:
      scores: of the task, with the baselines that they declare
      declared: what the task gives by score (`OpenTask.baselines`)
      plain: those that were fitted
    """
    plain, found = list(plain), {}
    for score in scores:
        rivals = [(score.baseline, score.against), (declared.get(score.name), score.against)]
        rivals += [(baseline.scores.get(score.name), baseline.name) for baseline in plain]
        known = [(value, name) for value, name in rivals if value is not None and math.isfinite(value)]
        if known:
            value, name = (max if score.higher_is_better else min)(known, key=lambda each: each[0])
            found[score.name] = score.with_baseline(value, name)
    return found


def verdict(score: Score, value: float | None) -> str:
    """The line for a model that does not beat the baseline of `score`; empty where it does, or there is none.

    >>> verdict(Score("accuracy", baseline=0.799, against="TF-IDF + logistic regression"), 0.766)
    'accuracy does not beat TF-IDF + logistic regression: 0.766 against 0.799'
    """
    if score.baseline is None:
        return ""
    broken = value is None or not math.isfinite(value)
    if not broken and value != score.baseline and (value > score.baseline) == score.higher_is_better:  # type: ignore[operator]
        return ""
    reached, needed = ("no number" if broken else _short(value), _short(score.baseline))  # type: ignore[arg-type]
    return f"{score.title} does not beat {score.against or 'its baseline'}: {reached} against {needed}"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
