"""Checkpoints: parameters, optimizer, data position and experiment of a step, written by Orbax without holding training
up. A directory gets its final name only when it is complete, so a kill leaves no half-written checkpoint."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from albert_jax.cluster import workdirs
from albert_jax.engine.state import Params, TrainState
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.fields import knob
from albert_jax.trees import by_name, flatten, from_names

FOLDER = "checkpoints"


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, and which are kept."""

    every: int = knob(1000, at_least=1)  # steps between checkpoints; the last step always has one
    keep: int = knob(3, at_least=1)  # latest checkpoints that are kept
    keep_best: int = knob(1, at_least=0)  # checkpoints that are kept for their validation score


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: directory of the run
      config: see `CheckpointConfig`
      best: name of the score that ranks checkpoints, and whether more of it is better; None takes what `train` stored
        beside them
      writing: this process trains here: what a killed run left half-written is removed
    """

    def __init__(
        self,
        workdir: str | Path,
        config: CheckpointConfig | None = None,
        best: tuple[str, bool] | None = None,
        writing: bool = False,
    ):
        # Orbax logs every file, and prints the trace of what it then raises; our errors are one line.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = workdirs.shared_dir(workdir) / FOLDER
        config = config or CheckpointConfig()
        name, higher_is_better = best or ("loss", False)
        policies = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(config.keep)]
        if config.keep_best:
            by_score = policies.BestN(
                get_metric_fn=lambda metrics: metrics[name], reverse=not higher_is_better, n=config.keep_best,
                keep_checkpoints_without_metrics=False,
            )  # fmt: skip
            kept.append(by_score)
        advice = "make room or choose another --workdir"
        with retold(lambda reason: f"cannot write to {self._folder}: {reason}; {advice}", OSError):
            self._checkpointer = ocp.training.Checkpointer(
                self._folder,
                # Every step that `save` is called with is written: when that is, is decided by the training loop.
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=writing,
            )
        self._best = best or self._stored_ranking()
        self._pending: Any = None

    @property
    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, ascending."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the best score, the latest where none has a score, None where there is none."""
        name, higher_is_better = self._best
        scored = [
            (checkpoint.metrics[name], checkpoint.step)
            for checkpoint in self._checkpointer.checkpoints
            if checkpoint.metrics and name in checkpoint.metrics
        ]
        # Of equal scores the later step, where more is better, and the earlier, where less is.
        if scored:
            return (max if higher_is_better else min)(scored)[1]
        return max(self.steps, default=None)

    def _stored_ranking(self) -> tuple[str, bool]:
        stored = self.metadata(self.steps[-1]) if self.steps else {}
        name, higher_is_better = stored.get("ranking", ("loss", False))
        return name, higher_is_better

    def save(self, state: TrainState, metadata: dict[str, Any], scores: dict[str, float] | None = None) -> None:
        """Starts to write `state`; `metadata` (JSON) holds the data position and the experiment.

        Raises AlbertError when this or the previous write failed.
        """
        # Training must not go on without its checkpoints: the next save is where a failed one surfaces at the latest.
        trees = {"params": state.params, "optimizer": by_name(_besides_params(state))}
        self.wait()
        with self._writes():
            self._pending = self._checkpointer.save_checkpointables_async(
                int(state.step), trees, metrics=scores, custom_metadata=metadata, overwrite=True
            )

    def wait(self) -> None:
        """Returns when what was started is on disk. Raises AlbertError when it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._writes():
                pending.result()

    def close(self) -> None:
        self.wait()
        self._checkpointer.close()

    @contextmanager
    def _writes(self) -> Iterator[None]:
        """Within it, a failed write becomes one line that names the finished checkpoints."""
        try:
            yield
        except (OSError, ValueError) as error:
            # A full disk may come as TensorStore's ValueError, with the reason anywhere in its text.
            full, text = "No space left" in str(error), str(error).strip() or repr(error)
            reason = "no space left on the device" if full else text.splitlines()[0][:300]
            raise AlbertError(
                f"a checkpoint could not be written to {self._folder}: {reason}; finished checkpoints {self.steps} are "
                "intact: make room or fix permissions and run the command again"
            ) from error

    def metadata(self, step: int) -> dict[str, Any]:
        """What was stored beside the state of `step`."""
        return self._checkpointer.checkpointables_metadata(step).custom_metadata or {}

    def restore(self, step: int, template: TrainState) -> TrainState:
        """The state of `step`, whatever mesh wrote it. `template` gives names, shapes and where each array shall live
        (`albert_jax.engine.state.abstract_state`); every process reads only its parts.

        Raises AlbertError where names or shapes differ.
        """
        wanted = {"params": template.params, "optimizer": by_name(_besides_params(template))}
        stored = self._checkpointer.checkpointables_metadata(step).metadata
        for part, tree in wanted.items():
            refuse(_misfits(stored[part], tree, f"checkpoint {self._folder / str(step)}, {part}"))
        found = self._checkpointer.load_checkpointables(step, wanted)
        return TrainState(params=found["params"], **from_names(_besides_params(template), found["optimizer"]))

    def params(self, step: int, shardings: Any = None) -> Params:
        """The parameters of `step`: as NumPy arrays, or as `shardings`, a tree of shardings, divides them.

        Raises AlbertError where the names of `shardings` are not those of the checkpoint.
        """
        stored = self._checkpointer.checkpointables_metadata(step).metadata["params"]
        # Orbax returns the kind of array that the template is made of.
        if shardings is None:
            abstract = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), stored)
        else:
            refuse(_misfits(stored, shardings, f"checkpoint {self._folder / str(step)}, params", shapes=False))
            abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), stored, shardings)
        return self._checkpointer.load_checkpointables(step, {"params": abstract})["params"]

    def shapes(self, step: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Path -> (shape, dtype) of every array of `step`, read without loading one."""
        stored = self._checkpointer.checkpointables_metadata(step).metadata
        return {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in flatten(stored).items()}


def _besides_params(state: TrainState) -> dict[str, Any]:
    """What the "optimizer" part of a checkpoint holds."""
    # Parameters are a part of their own: who evaluates or fine-tunes reads a third of the bytes.
    return {"step": state.step, "skipped": state.skipped, "opt_state": state.opt_state}


def _misfits(stored: Any, wanted: Any, where: str, shapes: bool = True) -> Iterator[str]:
    """Sentences about the first array by name that is missing, not expected, or of another shape."""
    have, want = flatten(stored), flatten(wanted)
    if not have:
        yield f"{where}: no array can be read; it is damaged: choose another, or restore a copy"
    for name in sorted({*have, *want}):
        if name not in have or name not in want:
            side = "has no" if name not in have else "has an unexpected"
            yield f"{where}: it {side} array {name}; it belongs to another model or optimizer"
        if shapes and tuple(have[name].shape) != tuple(want[name].shape):
            asked = f"the experiment asks for {tuple(want[name].shape)}"
            yield f"{where}: {name} has shape {tuple(have[name].shape)}, {asked}"


def open_for_reading(path: str | Path, best: tuple[str, bool] | None = None) -> Checkpoints:
    """The checkpoints of an existing workdir. Raises AlbertError when there is no finished one."""
    workdir = workdirs.local_dir(path)
    folder = workdirs.shared_dir(workdir) / FOLDER
    # Before Orbax is asked, which would make the folder.
    if not folder.is_dir():
        raise AlbertError(f"{path} holds no {FOLDER}/; give the --workdir of a train run")
    found = Checkpoints(workdir, best=best)
    if not found.steps:
        raise AlbertError(f"{folder} holds no finished checkpoint; run train first, or wait for the first save")
    return found
