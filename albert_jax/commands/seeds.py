"""The verb seeds: an experiment under several seeds, since fine-tuning varies so much that one run says little."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import jax

from albert_jax.cluster import workdirs
from albert_jax.cluster.processes import ProcessConfig, joined
from albert_jax.commands.args import ExperimentOptions
from albert_jax.commands.compare import compare
from albert_jax.commands.environment import set_up_jax
from albert_jax.errors import AlbertError
from albert_jax.evaluate import SPLITS, evaluate
from albert_jax.experiment import Experiment
from albert_jax.fields import check, knob
from albert_jax.interop.start import inherit
from albert_jax.telemetry.report import write_report
from albert_jax.train import train


@dataclass(frozen=True)
class Options(ExperimentOptions):
    """Train and score a config under several seeds, in WORKDIR/seed-S each. The same command again goes on where it
    stopped."""

    n: int = knob(3, at_least=1)  # seeds to run
    split: str = "test"  # split to score: train, validation or test
    processes: ProcessConfig = field(default_factory=ProcessConfig)


def run(options: Options, experiment: Experiment) -> int:
    check(options)
    set_up_jax()
    with joined(options.processes):
        seeds(experiment, options.workdir, options.n, options.split)
    return 0


def seeds(experiment: Experiment, workdir: str | Path, n: int, split: str = "test") -> list[Path]:
    """Trains `experiment` with seeds seed, seed + 1, ... in WORKDIR/seed-S, scores each on `split` and prints a table.

    A seed that is done is not run again. Returns the workdirs. Raises AlbertError for a split that cannot be read, and
    what `train` raises.
    """
    # A split that cannot be read is refused now, not after the first run's hours.
    if split not in SPLITS:
        raise AlbertError(f"there is no split {split!r}; choose {', '.join(SPLITS)}")
    opened = inherit(experiment, workdirs.local_dir(f"{workdir}/seed-{experiment.seed}"))
    opened.task.open(opened.model, opened.seed).eval_batches(split, 1)
    paths = []
    for seed in range(experiment.seed, experiment.seed + n):
        path = workdirs.local_dir(f"{workdir}/seed-{seed}")
        train(dataclasses.replace(experiment, seed=seed), path)
        evaluate(path, split)
        if jax.process_index() == 0:
            # Once more after that of `train`, now with the scores.
            write_report(path)
            workdirs.upload(path)
        paths.append(path)
    if jax.process_index() == 0:
        compare(paths, split)
    return paths
