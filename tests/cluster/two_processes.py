"""What each of two processes of four devices does for `test_processes.py`.

`python -m tests.cluster.two_processes INDEX PORT DIR`: DIR holds `corpus` and `half`, a run that one process took to
step HALF. Errors that both are meant to meet are left in DIR as text, the rest as runs. It ends in a run that the test
stops by a signal.
"""

import dataclasses
import hashlib
import sys
from pathlib import Path

import jax
import numpy as np

from albert_jax import tasks
from albert_jax.cluster.processes import ProcessConfig, joined
from albert_jax.data.examples.loader import Loader
from albert_jax.engine.sharding import MeshConfig
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate
from albert_jax.experiment import Experiment
from albert_jax.optim import Schedule
from albert_jax.tasks.pretrain import OpenPretrain
from albert_jax.train import train
from benchmarks.mesh_equality import CASES, run
from tests import tiny

STEPS, HALF = 12, 4
MESH = MeshConfig({"data": 2, "fsdp": 4}, replicate_below=0)
CASE = "ZeRO-3: slice 2, data 2, fsdp 2"


class Recorded:
    """A loader that writes a line for each row that it hands out: batch, row, digest of the example."""

    def __init__(self, loader: Loader, rows, file: Path):
        self._loader, self._rows, self._file = loader, rows, file
        self.examples, self.get_state, self.set_state = loader.examples, loader.get_state, loader.set_state

    def __next__(self):
        number, batch = self.get_state()["next_batch"], next(self._loader)
        with self._file.open("a") as file:
            for place, row in enumerate(self._rows):
                whole = hashlib.sha256(b"".join(batch[name][place].tobytes() for name in sorted(batch)))
                file.write(f"{number} {row} {whole.hexdigest()}\n")
        return batch


class Pretrain(tasks.Pretrain):
    """Notes down what is fed to training, beside the corpus; of the class's own name, as a workdir stores it."""

    file = ""

    def open(self, config, seed):
        task, opened = self, OpenPretrain(self, config)

        def train_batches(batch_size, seed, workers, rows=None):
            loader = OpenPretrain.train_batches(opened, batch_size, seed, workers, rows)
            return Recorded(loader, rows or [], Path(task.file)) if rows else loader

        opened.train_batches = train_batches
        return opened


class Undivided(tasks.Pretrain):
    """Gives every process the rows of the first."""

    def open(self, config, seed):
        opened = OpenPretrain(self, config)
        opened.train_batches = lambda batch_size, seed, workers, rows=None: OpenPretrain.train_batches(
            opened, batch_size, seed, workers, range(len(rows or range(batch_size)))
        )
        return opened


def experiment(corpus: Path, rows: Path | None = None, task: type[tasks.Pretrain] = Pretrain, **changes) -> Experiment:
    """The tiny experiment, dropout on; what training is fed goes to the file `rows`."""
    base = tiny.experiment(corpus, **{"mesh": MESH, "steps": STEPS, "eval_every": 0, **changes})
    chosen = task(**{field.name: getattr(base.task, field.name) for field in dataclasses.fields(base.task)})
    object.__setattr__(chosen, "file", str(rows))
    optim = dataclasses.replace(base.optim, schedule=Schedule(warmup_steps=3, end_fraction=1.0))  # however long the run
    model = dataclasses.replace(base.model, hidden_dropout=0.1, attention_dropout=0.1)
    return dataclasses.replace(base, model=model, optim=optim, task=chosen if rows else base.task)


def main(index: int, port: int, place: Path) -> None:
    corpus, rows = place / "corpus", place / f"rows-{index}"

    def refused(name: str, wrong: Experiment) -> None:
        try:
            train(wrong, place / name)
        except AlbertError as error:
            (place / f"{name}-{index}").write_text(str(error))

    with joined(ProcessConfig(f"127.0.0.1:{port}", 2, index, 60)):
        one = experiment(corpus)
        refused("other", dataclasses.replace(one, optim=dataclasses.replace(one.optim, peak_lr=1e-3 * (1 + index))))
        refused("undivided", experiment(corpus, Path("none"), Undivided))
        try:
            train(one, place / f"own-{index}")
        except AlbertError as error:
            (place / f"shared-{index}").write_text(str(error))
        losses, params = run(CASES[CASE])
        np.savez(place / f"case-{index}", losses=losses, **{str(n): x for n, x in enumerate(jax.tree.leaves(params))})
        train(experiment(corpus, rows), place / "half")
        evaluate(place / "half", "validation", "latest")
        train(experiment(corpus, steps=4000), place / "stopped")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
