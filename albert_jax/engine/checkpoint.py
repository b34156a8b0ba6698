"""Checkpoints: parameters, optimizer, data position and experiment of a step, written by Orbax without holding training
up. A directory appears under its final name only when it is complete, so a kill leaves no half-written checkpoint."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from albert_jax.cluster import workdirs
from albert_jax.engine.state import Params, TrainState, by_name, from_names
from albert_jax.errors import AlbertError

FOLDER = "checkpoints"


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, and which are kept."""

    every: int = 1000  # steps between checkpoints; the last step always has one
    keep: int = 3  # latest checkpoints that are kept
    keep_best: int = 1  # checkpoints that are kept for their validation score


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
        workdir: directory of the run.
        config: see `CheckpointConfig`.
        best: score to rank checkpoints by, and whether more of it is better; None for what `train` stored beside them.
        writing: this process trains here: what a killed run left half-written is removed.
    """

    def __init__(
        self,
        workdir: str | Path,
        config: CheckpointConfig | None = None,
        best: tuple[str, bool] | None = None,
        writing: bool = False,
    ):
        # Orbax tells of every file, and prints the trace of what it then raises: our errors say it in one line.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = workdirs.shared(workdir) / FOLDER
        config = config or CheckpointConfig()
        name, more = best or ("loss", False)
        policies = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(config.keep)]
        if config.keep_best:
            by_score = policies.BestN(
                get_metric_fn=lambda metrics: metrics[name], reverse=not more, n=config.keep_best,
                keep_checkpoints_without_metrics=False,
            )  # fmt: skip
            kept.append(by_score)
        try:
            self._checkpointer = ocp.training.Checkpointer(
                self._folder,
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=writing,
            )
        except OSError as error:
            raise AlbertError(
                f"cannot write to {self._folder}: {error.strerror or error}; make room or choose another --workdir"
            ) from error
        self._best = best or self._stored_ranking()
        self._pending: Any = None

    @property
    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, ascending."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the best score, the latest where none has a score, None where there is none."""
        name, more = self._best
        scored = [
            (checkpoint.metrics[name], checkpoint.step)
            for checkpoint in self._checkpointer.checkpoints
            if checkpoint.metrics and name in checkpoint.metrics
        ]
        if scored:
            return (max if more else min)(scored)[1]
        return max(self.steps, default=None)

    def _stored_ranking(self) -> tuple[str, bool]:
        name, more = self.metadata(self.steps[-1]).get("ranking", ("loss", False)) if self.steps else ("loss", False)
        return name, more

    def save(self, state: TrainState, about: dict[str, Any], scores: dict[str, float] | None = None) -> None:
        """Starts to write `state`; `about` (JSON) holds the data position and the experiment.

        Raises AlbertError when this or the previous write failed: training must not go on without its checkpoints.
        """
        trees = {
            "params": state.params,
            "optimizer": by_name(_beside_params(state)),
        }
        try:
            self.wait()
            self._pending = self._checkpointer.save_checkpointables_async(
                int(state.step), trees, metrics=scores, custom_metadata=about, overwrite=True
            )
        except (OSError, ValueError) as error:
            raise self._unwritten(error) from error

    def wait(self) -> None:
        """Returns when what was started is on disk. Raises AlbertError when it could not be written."""
        try:
            if self._pending is not None:
                pending, self._pending = self._pending, None
                pending.result()
        except (OSError, ValueError) as error:
            raise self._unwritten(error) from error

    def close(self) -> None:
        self.wait()
        self._checkpointer.close()

    def _unwritten(self, error: Exception) -> AlbertError:
        said = "no space left on the device" if "No space left" in str(error) else str(error).strip() or repr(error)
        return AlbertError(
            f"a checkpoint could not be written to {self._folder}: {said.splitlines()[0][:300]}; finished checkpoints "
            f"{self.steps} are intact: make room or fix permissions and run the command again"
        )

    def metadata(self, step: int) -> dict[str, Any]:
        """What was stored beside the state of `step`."""
        return self._checkpointer.checkpointables_metadata(step).custom_metadata or {}

    def restore(self, step: int, template: TrainState) -> TrainState:
        """The state of `step`, whatever mesh wrote it. `template` gives names, shapes and where each array shall live
        (`albert_jax.engine.state.abstract_state`); every process reads only its parts.

        Raises AlbertError where names or shapes differ.
        """
        wanted = {
            "params": template.params,
            "optimizer": by_name(_beside_params(template)),
        }
        stored = self._checkpointer.checkpointables_metadata(step).metadata
        for part, tree in wanted.items():
            _check_fit(stored[part], tree, f"{self._folder / str(step)}, {part}")
        found = self._checkpointer.load_checkpointables(step, wanted)
        return TrainState(params=found["params"], **from_names(_beside_params(template), found["optimizer"]))

    def params(self, step: int, places: Any = None) -> Params:
        """The parameters of `step`: as NumPy arrays, or where `places`, a tree of shardings, says."""
        stored = self._checkpointer.checkpointables_metadata(step).metadata["params"]
        if places is None:
            abstract = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), stored)
        else:
            _check_fit(stored, places, f"{self._folder / str(step)}, params", shapes=False)
            abstract = jax.tree.map(lambda x, p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=p), stored, places)
        return self._checkpointer.load_checkpointables(step, {"params": abstract})["params"]

    def shapes(self, step: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Path -> (shape, dtype) of every array of `step`, read without loading one."""
        stored = self._checkpointer.checkpointables_metadata(step).metadata
        return {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in flat(stored).items()}


def _beside_params(state: TrainState) -> dict[str, Any]:
    """What the "optimizer" part of a checkpoint holds."""
    return {"step": state.step, "skipped": state.skipped, "opt_state": state.opt_state}


def flat(tree: Any) -> dict[str, Any]:
    """A nested dict as one dict of "a/b/c" paths."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _check_fit(stored: Any, wanted: Any, where: str, shapes: bool = True) -> None:
    have, want = flat(stored), flat(wanted)
    if not have:
        raise AlbertError(f"checkpoint {where}: no array can be read; it is damaged: choose another, or restore a copy")
    for name in sorted({*have, *want}):
        if name not in have or name not in want:
            side = "has no" if name not in have else "has an unexpected"
            raise AlbertError(f"checkpoint {where}: it {side} array {name}; it belongs to another model or optimizer")
        if shapes and tuple(have[name].shape) != tuple(want[name].shape):
            raise AlbertError(
                f"checkpoint {where}: {name} has shape {tuple(have[name].shape)}, "
                f"the experiment asks for {tuple(want[name].shape)}"
            )


def open_for_reading(path: str | Path, best: tuple[str, bool] | None = None) -> Checkpoints:
    """The checkpoints of an existing workdir. Raises AlbertError when there is no finished one."""
    folder = workdirs.shared(workdirs.local(path)) / FOLDER
    if not folder.is_dir():
        raise AlbertError(f"{path} holds no {FOLDER}/; give the --workdir of a train run")
    found = Checkpoints(workdirs.local(path), best=best)
    if not found.steps:
        raise AlbertError(f"{folder} holds no finished checkpoint; run train first, or wait for the first save")
    return found
