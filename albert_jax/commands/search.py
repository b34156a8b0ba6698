"""Search for the fields of an experiment that score best: Optuna draws the values, `train` runs them.

A trial is an ordinary workdir, DIR/trial-NNN. Optuna's storage is DIR/search.db, so the same command again goes on
where it stopped. What becomes of a trial:

- finished: it ran to its end (or its patience's), and its best evaluation is its score;
- pruned: at an evaluation it was worse than the median of the others at theirs of the same number;
- failed: it diverged, or was never a number;
- interrupted (a signal, a kill, a full disk): the next call continues it from its last checkpoint, as `train` does.

A trial whose fields do not go together starts nothing and does not count; three in a row end the search.
"""

import contextlib
import dataclasses
import fcntl
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax import experiment as experiments
from albert_jax.commands.space import Dimension, Value, apply, read_space
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.interop.start import inherit
from albert_jax.telemetry.charts import Panel, draw_points
from albert_jax.telemetry.records import METRICS, read_metrics, write_atomically
from albert_jax.telemetry.tables import format_table, print_table
from albert_jax.train import Diverged, train

STORAGE, ABOUT, TABLE, PLOT = "search.db", "search.json", "search.txt", "search.png"
_UNSTARTED = 3  # trials in a row that could not start before the search ends


class Pruned(Exception):
    """Raised in `train` by a trial that is worse than the others were; no error."""


@dataclass(frozen=True)
class Trial:
    """One row of the result.

    Attributes:
      number: from 0; its workdir is trial-NNN
      state: "finished", "pruned" or "failed"
      score: its best evaluation, None where there was none
      step: after which that was
      values: field -> value
    """

    number: int
    state: str
    score: float | None
    step: int | None
    values: dict[str, Value]

    @property
    def workdir(self) -> str:
        return f"trial-{self.number:03}"


def search(experiment: Experiment, workdir: str | Path, space: str, trials: int = 20) -> list[Trial]:
    """Runs `experiment` with values of `space` (see `albert_jax.commands.space`) until `trials` have run; returns
    them, best first. The score is that which picks the task's best checkpoint, or `stopping.score`.

    Values depend on experiment.seed, the number of the trial and the scores before it. Prints a table; leaves it as
    search.txt, with search.png beside it.

    Raises AlbertError: Optuna is not installed, a space that does not fit the experiment, a workdir of another search
    or one that is being searched, the first trial cannot start, or what `train` raises but for a run that diverges.
    """
    optuna = _optuna()
    if trials < 1:
        raise AlbertError(f"trials is {trials}; give the number of trials, at least 1")
    root = Path(workdir)
    dimensions = read_space(space, experiment)
    for values in _corners(dimensions):
        inherit(apply(experiment, values), root / "trial").check()
    opened = inherit(experiment, root / "trial")
    task = opened.task.open(opened.model, opened.seed)
    ranked = experiment.stopping.rank_by(task.best, task.scores)
    ranking = (ranked.name, ranked.higher_is_better)
    with _claimed(root, experiment, dimensions):
        study = _study(root, ranking[1])
        unstarted = 0
        while (trial := _next(study, trials, experiment.seed)) is not None:
            values = {dimension.field: dimension.suggest(trial) for dimension in dimensions}
            place = root / f"trial-{trial.number:03}"
            said = ", ".join(f"{field} {_short(value)}" for field, value in values.items())
            print(f"trial {trial.number}: {said}", flush=True)
            try:
                _run(trial, _named(apply(experiment, values), place), place, ranking)
                unstarted = 0
            except AlbertError as error:
                if (place / METRICS).exists():
                    raise  # not of its values' making: the next call continues the trial
                unstarted += 1
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                print(f"trial {trial.number} cannot start: {error}", flush=True)
                if unstarted == _UNSTARTED or not _counted(study):
                    raise
        found = results(study, ranking)
        _show(root, experiment, dimensions, ranking, found)
    return found


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise AlbertError("search needs Optuna; install it with: pip install 'albert_jax[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _corners(dimensions: Sequence[Dimension]) -> Iterator[dict[str, Value]]:
    """Values that stand for the space: each end of each dimension, the others at their first."""
    first = {dimension.field: dimension.ends[0] for dimension in dimensions}
    for dimension in dimensions:
        for value in dimension.ends:
            yield first | {dimension.field: value}


@contextlib.contextmanager
def _claimed(root: Path, experiment: Experiment, dimensions: Sequence[Dimension]) -> Iterator[None]:
    """`root` as the place of this search, and of no other process meanwhile."""
    about = {"space": sorted(dimension.said for dimension in dimensions), "experiment": experiments.to_dict(experiment)}
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "search.lock").open("w")
    except OSError as error:
        raise AlbertError(f"cannot write to {root}: {error.strerror}; choose another --workdir") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlbertError(
                f"another search is running in {root}; wait for it, or choose another --workdir"
            ) from error
        if (root / ABOUT).exists():
            try:
                before = json.loads((root / ABOUT).read_text(encoding="utf-8"))
                changed = experiments.differences(experiments.from_dict(Experiment, before["experiment"]), experiment)
                if before["space"] != about["space"]:
                    changed.insert(0, f"--space: {' '.join(before['space'])} -> {' '.join(about['space'])}")
            except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
                raise AlbertError(
                    f"{root / ABOUT} is damaged ({error}); restore it from a copy, or search in another --workdir"
                ) from error
            if changed:
                raise AlbertError(
                    f"{root} belongs to another search ({'; '.join(changed[:4])}); use another --workdir, or give the "
                    "same space and fields to continue it"
                )
        write_atomically(root / ABOUT, json.dumps(about, indent=2) + "\n")
        yield


def _study(root: Path, more: bool) -> Any:
    """What Optuna keeps in `root`; the score is better where it is `more`, else where it is less."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    try:
        return optuna.create_study(
            storage=f"sqlite:///{root.resolve() / STORAGE}", study_name="search", load_if_exists=True,
            direction="maximize" if more else "minimize", pruner=optuna.pruners.MedianPruner(),
        )  # fmt: skip
    except DatabaseError as error:
        raise AlbertError(
            f"{root / STORAGE} is damaged ({error.orig}); restore it from a copy, or search in another --workdir"
        ) from error


def _counted(study: Any) -> list[Any]:
    """The trials that ran, whatever came of it."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "score" in t.user_attrs]


def _next(study: Any, trials: int, seed: int) -> Any:
    """The trial that was interrupted, or a new one, or None when there are enough."""
    import optuna

    waiting = [t for t in study.get_trials(deepcopy=False) if not t.state.is_finished()]
    number = waiting[0].number if waiting else len(study.get_trials(deepcopy=False))
    # A sampler of the trial's own: one that went on from trial to trial would begin again after an interruption.
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=own)
    if waiting:
        return optuna.trial.Trial(study, waiting[0]._trial_id)
    return study.ask() if len(_counted(study)) < trials else None


def _named(experiment: Experiment, place: Path) -> Experiment:
    return dataclasses.replace(experiment, name=f"{experiment.name} {place.name}")


def _run(trial: Any, experiment: Experiment, place: Path, ranking: tuple[str, bool]) -> None:
    """Trains a trial and tells Optuna what came of it."""
    from optuna.trial import TrialState

    name, more = ranking

    def evaluations() -> list[dict[str, Any]]:
        return [record for record in read_metrics(place) if record["kind"] == "validation"]

    def on_evaluation(step: int, scores: dict[str, float]) -> None:
        # Numbered from 0, not by step: a batch twice as large takes half as many steps to read the same examples.
        number = sum(record["step"] < step for record in evaluations())
        if math.isfinite(scores[name]):
            trial.report(scores[name], number)
        if step < experiments.read(place).steps and trial.should_prune():
            raise Pruned

    state = TrialState.COMPLETE
    try:
        train(experiment, place, on_evaluation)
    except Pruned:
        state = TrialState.PRUNED
        print(f"trial {trial.number} pruned: worse than the median so far", flush=True)
    except Diverged as error:
        state = TrialState.FAIL
        print(f"trial {trial.number} failed: {error}", flush=True)
    seen = [(record[name], record["step"]) for record in evaluations() if math.isfinite(record[name])]
    best = (max if more else min)(seen, key=lambda pair: pair[0], default=None)
    if best is None:
        state = TrialState.FAIL
    trial.set_user_attr("score", best)
    trial.study.tell(trial.number, best[0] if best and state == TrialState.COMPLETE else None, state=state)


def results(study: Any, ranking: tuple[str, bool]) -> list[Trial]:
    """All trials that ran, the best first, those without a score last."""
    from optuna.trial import TrialState

    names = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    found = []
    for trial in _counted(study):
        score, step = trial.user_attrs["score"] or (None, None)
        found.append(Trial(trial.number, names[trial.state], score, step, dict(trial.params)))
    sign = -1 if ranking[1] else 1
    return sorted(found, key=lambda t: (t.state == "failed", math.inf if t.score is None else sign * t.score, t.number))


def _show(
    root: Path, experiment: Experiment, dimensions: Sequence[Dimension], ranking: tuple[str, bool], found: list[Trial]
) -> None:
    """Prints the table and draws the plot."""
    name, more = ranking
    fields = [dimension.field for dimension in dimensions]
    headers = ("trial", "state", name, "at step", *fields)
    rows = [(t.workdir, t.state, t.score, t.step, *(_short(t.values[f]) for f in fields)) for t in found]
    title = f"{experiment.name}: {name} of {len(found)} trials, {'more' if more else 'less'} is better"
    print_table(title, headers, rows)
    write_atomically(root / TABLE, format_table(headers, rows, title) + "\n")
    drawn = [trial for trial in found if trial.score is not None]
    if drawn:
        scores = [float(trial.score) for trial in drawn if trial.score is not None]
        weak = [trial.state != "finished" for trial in drawn]
        panels = [Panel("trial", [trial.number for trial in drawn], whole=True)]
        for d in dimensions:
            values: list[Any] = [trial.values[d.field] for trial in drawn]
            words = [str(choice) for choice in d.choices]
            places = list(map(str, values)) if words else values
            panels.append(Panel(d.field, places, d.kind == "log", words, d.kind == "int"))
        draw_points(f"{title} (hollow: pruned or failed)", name, scores, weak, panels, 0, root / PLOT)
        print(f"best: {root / drawn[0].workdir}; plot: {root / PLOT}")


def _short(value: Value) -> Value:
    """A drawn number with the four figures that matter, as a word."""
    return f"{value:.4g}" if isinstance(value, float) else value
