"""From a task to its compiled steps: mesh, layout, optimizer and steps are put together here and nowhere else."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optax

from albert_jax.engine.sharding import Layout, MeshConfig
from albert_jax.engine.state import TrainState, abstract_params, abstract_state, create, lay_out
from albert_jax.engine.step import make_eval_step, make_train_step
from albert_jax.optim import Optimizer
from albert_jax.tasks.base import Objective


@dataclass(frozen=True)
class Assembly:
    """A task on a mesh, with the optimizer that trains it. Nothing is compiled or allocated until it is used."""

    task: Objective
    layout: Layout  # where parameters, moments and rows live
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule  # learning rate by step
    batch_size: int  # examples of a step
    micro_batches: int  # pieces that a step is computed in
    seed: int  # of initial values and dropout
    replica_clip: float  # norm that each device clips its own gradient to; 0 for the global rule

    @cached_property
    def train_step(self) -> Any:
        """A jitted (state, batch) -> (state, metrics)."""
        return make_train_step(
            self.task, self.optimizer, self.schedule, self.layout,
            micro_batches=self.micro_batches, seed=self.seed, replica_clip=self.replica_clip,
        )  # fmt: skip

    @cached_property
    def eval_step(self) -> Any:
        """A jitted (params, batch) -> (sums and weights, outputs of each row)."""
        return make_eval_step(self.task, self.layout)

    def initial_state(self) -> TrainState:
        """A state at step 0, on its devices."""
        return create(self.task, self.optimizer, self.seed, self.layout)

    def abstract_state(self) -> TrainState:
        """The shapes, dtypes and shardings of a state, without arrays."""
        return abstract_state(self.task, self.optimizer, self.layout)

    def eval_rows(self, asked: int = 0) -> int:
        """Examples of an evaluation batch: those that are asked for (0: as in training), or a few more so that they
        divide over the devices."""
        rows = asked or self.batch_size
        return rows + -rows % self.layout.row_groups


def assemble(
    task: Objective, optim: Optimizer, mesh: MeshConfig, *, steps: int, batch_size: int, micro_batches: int = 1,
    seed: int = 0, devices: list[Any] | None = None,
) -> Assembly:  # fmt: skip
    """`task` on the mesh that `mesh` makes of `devices` (default: all of this run), trained by `optim` for `steps`.

    Raises AlbertError for a mesh that does not fit the devices, a parameter or a batch that does not divide, and a
    schedule longer than the run.
    """
    layout = lay_out(task, mesh, devices)
    layout.check_batch(batch_size, micro_batches)
    return Assembly(
        task,
        layout,
        optim.build(steps, abstract_params(task)),
        optim.learning_rate(steps),
        batch_size,
        micro_batches,
        seed,
        optim.replica_clip,
    )
