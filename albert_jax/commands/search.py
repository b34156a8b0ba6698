"""The verb search: the fields of an experiment that score best. Optuna draws the values, `train` runs them.

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
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax import experiment as experiments
from albert_jax.commands.args import ExperimentOptions
from albert_jax.commands.environment import set_up_jax
from albert_jax.commands.space import Function, Value, apply, open_space
from albert_jax.errors import AlbertError, extra, retold
from albert_jax.experiment import Experiment
from albert_jax.files import read_object, reading, write_atomically, write_json
from albert_jax.interop.start import inherit
from albert_jax.telemetry.records import METRICS, read_metrics
from albert_jax.telemetry.scores import Score
from albert_jax.telemetry.tables import format_table, print_table
from albert_jax.train import Diverged, train

STORAGE, ABOUT, TABLE, PLOT = "search.db", "search.json", "search.txt", "search.png"
_UNSTARTED = 3  # trials in a row that could not start before the search ends
_RESTORE = "restore it from a copy, or search in another --workdir"


@dataclass(frozen=True)
class Options(ExperimentOptions):
    """Try values of a config's fields in WORKDIR/trial-NNN each (needs Optuna). The same command again goes on where it
    stopped."""

    # "optim.peak_lr=log(1e-5,1e-4) batch_size=[16,32] steps=int(100,500)"; empty takes the config's search_space(trial)
    space: str = ""
    trials: int = 20  # trials in all; the same command goes on to them


def run(options: Options, experiment: Experiment) -> int:
    # The module that `load_config` has imported: to run the file again would define its own kinds of tasks twice.
    space = options.space or getattr(experiments.import_config(Path(options.config)), "search_space", None)
    if not space:
        raise AlbertError(
            'search needs --space "FIELD=log(LOW,HIGH) ...", or search_space(trial) in the config; '
            "see albert_jax search --help"
        )
    set_up_jax()
    search(experiment, options.workdir, space, options.trials)
    return 0


class Pruned(Exception):
    """Raised in `train` by a trial that is worse than the others were; no error."""


@dataclass(frozen=True)
class Trial:
    """One row of the result."""

    number: int  # from 0; its workdir is trial-NNN
    state: str  # "finished", "pruned" or "failed"
    score: float | None  # its best evaluation, None where there was none
    step: int | None  # after which that was
    values: dict[str, Value]  # what Optuna drew: field -> value

    @property
    def workdir(self) -> str:
        return f"trial-{self.number:03}"


def search(experiment: Experiment, workdir: str | Path, space: str | Function, trials: int = 20) -> list[Trial]:
    """Runs `experiment` with values of `space` (see `albert_jax.commands.space`) until `trials` have run; returns
    them, best first. The score is that which picks the task's best checkpoint, or `stopping.score`. Prints a table;
    leaves it as search.txt, with search.png beside it.

    Raises AlbertError: Optuna is not installed, a space that does not fit the experiment, a workdir of another search
    or one that is being searched, the first trial cannot start, or what `train` raises but for a run that diverges.
    """
    with retold(lambda _: f"search needs Optuna; install it with: {extra('search')}", ImportError):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if trials < 1:
        raise AlbertError(f"trials is {trials}; give the number of trials, at least 1")
    root = Path(workdir)
    if (root / ABOUT).exists():
        experiment = experiment.left_open_as(_about(root / ABOUT)[1])
    draw, spec, samples = open_space(space, experiment)
    # What cannot start is refused before anything is written.
    for values in samples:
        inherit(apply(experiment, values), root / "trial").check()
    opened = inherit(experiment, root / "trial")
    task = opened.task.open(opened.model, opened.seed)
    ranking = experiment.stopping.rank_by(task.best, task.scores)
    with _owned(root, spec, experiment):
        study = _study(root, ranking)
        unstarted = 0
        while (trial := _next(study, trials, experiment.seed)) is not None:
            values = draw(trial)
            path = root / f"trial-{trial.number:03}"
            words = ", ".join(f"{field} {_short(value)}" for field, value in values.items())
            print(f"trial {trial.number}: {words}", flush=True)
            try:
                named = dataclasses.replace(apply(experiment, values), name=f"{experiment.name} {path.name}")
                _run(trial, named, path, ranking)
                unstarted = 0
            except AlbertError as error:
                # Where it has metrics it had started, and its values are not to blame: the next call continues it.
                if (path / METRICS).exists():
                    raise
                unstarted += 1
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                print(f"trial {trial.number} cannot start: {error}", flush=True)
                if unstarted == _UNSTARTED or not _counted(study):
                    raise
        found = results(study, ranking)
        _show(root, experiment.name, study, ranking, found)
        return found


@contextlib.contextmanager
def _owned(root: Path, spec: list[str], experiment: Experiment) -> Iterator[None]:
    """`root` as the directory of this search, and of no other process meanwhile."""
    with retold(lambda message: f"cannot write to {root}: {message}; choose another --workdir", OSError):
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "search.lock").open("w")
    # A lock of the operating system, which a killed process cannot leave behind.
    with lock:
        advice = "wait for it, or choose another --workdir"
        with retold(lambda _: f"another search is running in {root}; {advice}", OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if changed := _changes(root / ABOUT, spec, experiment):
            raise AlbertError(
                f"{root} belongs to another search ({'; '.join(changed[:4])}); use another --workdir, or give the "
                "same space and fields to continue it"
            )
        write_json(root / ABOUT, {"space": spec, "experiment": experiments.to_dict(experiment)})
        yield


def _about(file: Path) -> tuple[list[str], Experiment]:
    """Space and experiment of the search in a directory."""
    stored = read_object(file, _RESTORE)
    with reading(file, _RESTORE):
        return list(stored["space"]), experiments.from_dict(Experiment, stored["experiment"])


def _changes(about: Path, spec: list[str], experiment: Experiment) -> list[str]:
    if not about.exists():
        return []
    space, stored = _about(about)
    before, now = " ".join(space), " ".join(spec)
    changed = [f"--space: {before} -> {now}"] if before != now else []
    return changed + experiments.differences(stored, experiment)


def _study(root: Path, ranking: Score) -> Any:
    """What Optuna keeps in `root`."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    with retold(lambda message: f"{root / STORAGE} is damaged ({message}); {_RESTORE}", DatabaseError):
        return optuna.create_study(
            storage=f"sqlite:///{root.resolve() / STORAGE}", study_name="search", load_if_exists=True,
            direction="maximize" if ranking.higher_is_better else "minimize", pruner=optuna.pruners.MedianPruner(),
        )  # fmt: skip


def _counted(study: Any) -> list[Any]:
    """The trials that ran, whatever came of it."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "score" in t.user_attrs]


def _next(study: Any, trials: int, seed: int) -> Any:
    """The trial that was interrupted, or a new one, or None when there are enough."""
    import optuna

    # Values depend on the experiment's seed, the number of the trial and the scores before it, so that a search gives
    # the same whether it was interrupted or not. A sampler that went on from trial to trial would begin again.
    waiting = [t for t in study.get_trials(deepcopy=False) if not t.state.is_finished()]
    number = waiting[0].number if waiting else len(study.get_trials(deepcopy=False))
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=own)
    if waiting:  # Optuna has no public way to take up a running trial again
        return optuna.trial.Trial(study, waiting[0]._trial_id)
    return study.ask() if len(_counted(study)) < trials else None


def _run(trial: Any, experiment: Experiment, path: Path, ranking: Score) -> None:
    """Trains a trial in `path` and tells Optuna what came of it."""
    from optuna.trial import TrialState

    def evaluations() -> list[dict[str, Any]]:
        return [record for record in read_metrics(path) if record["kind"] == "validation"]

    def on_evaluation(step: int, scores: dict[str, float]) -> None:
        # Numbered from 0, not by step: a batch twice as large takes half as many steps to read the same examples.
        number = sum(record["step"] < step for record in evaluations())
        if math.isfinite(scores[ranking.name]):
            trial.report(scores[ranking.name], number)
        # After its last step there is nothing left to save.
        if step < experiments.read(path).steps and trial.should_prune():
            raise Pruned

    state = TrialState.COMPLETE
    try:
        train(experiment, path, on_evaluation)
    except Pruned:
        state = TrialState.PRUNED
        print(f"trial {trial.number} pruned: worse than the median so far", flush=True)
    except Diverged as error:
        state = TrialState.FAIL
        print(f"trial {trial.number} failed: {error}", flush=True)
    # From the metrics file and not from this call's evaluations: a trial that was interrupted has earlier ones.
    seen = [(record[ranking.name], record["step"]) for record in evaluations() if math.isfinite(record[ranking.name])]
    best = (max if ranking.higher_is_better else min)(seen, key=lambda pair: pair[0], default=None)
    if best is None:
        state = TrialState.FAIL
    # Optuna keeps a value of finished trials only, and no step.
    trial.set_user_attr("score", best)
    trial.study.tell(trial.number, best[0] if best and state == TrialState.COMPLETE else None, state=state)


def results(study: Any, ranking: Score) -> list[Trial]:
    """All trials that ran, the best first, those without a score last."""
    from optuna.trial import TrialState

    names = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    found = []
    for trial in _counted(study):
        score, step = trial.user_attrs["score"] or (None, None)
        found.append(Trial(trial.number, names[trial.state], score, step, dict(trial.params)))
    sign = -1 if ranking.higher_is_better else 1
    return sorted(found, key=lambda t: (t.state == "failed", math.inf if t.score is None else sign * t.score, t.number))


def _show(root: Path, experiment: str, study: Any, ranking: Score, found: list[Trial]) -> None:
    """Prints the table and draws the plot."""
    # Here, not above: --help need not wait for Matplotlib.
    from albert_jax.telemetry.charts import Panel, draw_points

    drawn = {field: distribution for trial in _counted(study) for field, distribution in trial.distributions.items()}
    headers = ("trial", "state", ranking.name, "at step", *drawn)
    rows = [(t.workdir, t.state, t.score, t.step, *(_short(t.values.get(f)) for f in drawn)) for t in found]
    better = "more" if ranking.higher_is_better else "less"
    title = f"{experiment}: {ranking.name} of {len(found)} trials, {better} is better"
    print_table(title, headers, rows)
    write_atomically(root / TABLE, format_table(headers, rows, title) + "\n")
    scored = [trial for trial in found if trial.score is not None]
    if not scored:
        return
    panels = [Panel("trial", [trial.number for trial in scored], whole=True)]
    for field, distribution in drawn.items():
        values: list[Any] = [trial.values.get(field) for trial in scored]
        # A field that a function of the config draws in some trials only has no place in the others.
        if None not in values:
            words = [str(choice) for choice in getattr(distribution, "choices", ())]
            places = list(map(str, values)) if words else values
            log, whole = getattr(distribution, "log", False), isinstance(values[0], int)
            panels.append(Panel(field, places, log, words, whole))
    scores, weak = [float(t.score or 0) for t in scored], [t.state != "finished" for t in scored]
    draw_points(f"{title} (hollow: pruned or failed)", ranking.name, scores, weak, panels, 0, root / PLOT)
    print(f"best: {root / scored[0].workdir}; plot: {root / PLOT}")


def _short(value: Any) -> Any:
    """A drawn number with the four figures that matter, as a word."""
    return f"{value:.4g}" if isinstance(value, float) else value
