"""The same experiment under several seeds: fine-tuning varies so much that one run says little."""

import dataclasses
from pathlib import Path

import jax

from albert_jax.cluster import workdirs
from albert_jax.commands.compare import compare
from albert_jax.errors import AlbertError
from albert_jax.evaluate import SPLITS, evaluate
from albert_jax.experiment import Experiment
from albert_jax.interop.start import inherit
from albert_jax.telemetry.report import write_report
from albert_jax.train import train


def seeds(experiment: Experiment, workdir: str | Path, n: int, split: str = "test") -> list[Path]:
    """Trains `experiment` with seeds seed, seed + 1, ... in WORKDIR/seed-S, scores each on `split` and prints a table.

    A seed that is done is not run again. Returns the workdirs. Raises AlbertError for n < 1, a split that
    cannot be read, and what `train` raises.
    """
    if n < 1:
        raise AlbertError(f"n is {n}; give the number of seeds, at least 1")
    if split not in SPLITS:
        raise AlbertError(f"there is no split {split!r}; choose {', '.join(SPLITS)}")
    opened = inherit(experiment, workdirs.local_dir(f"{workdir}/seed-{experiment.seed}"))
    opened.task.open(opened.model, opened.seed).eval_batches(split, 1)  # now, not after a run, is the time to learn it
    places = []
    for seed in range(experiment.seed, experiment.seed + n):
        place = workdirs.local_dir(f"{workdir}/seed-{seed}")
        train(dataclasses.replace(experiment, seed=seed), place)
        evaluate(place, split)
        if jax.process_index() == 0:
            write_report(place)  # again: now with the scores
            workdirs.upload(place)
        places.append(place)
    if jax.process_index() == 0:
        compare(places, split)
    return places
