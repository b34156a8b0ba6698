"""One optimizer step and one evaluation step, as pure functions of arrays.

The forward and backward pass run under `jax.shard_map`: each device works on its rows of the batch with its own copy of
the parameters, and the gradient crosses the network once, after the last micro-batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from albert_jax.model.config import AlbertConfig
from albert_jax.sharding import DATA, replicated, rows
from albert_jax.state import Params, TrainState, bind, definition
from albert_jax.tasks.base import Batch, OpenTask

Metrics = dict[str, jax.Array]


def drops(config: AlbertConfig) -> bool:
    """Whether a training step draws random numbers at all."""
    return bool(config.hidden_dropout or config.attention_dropout or config.classifier_dropout)


def dropout_keys(seed: int, step: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """A key for each of `count` rows of the global batch from row `first` on, [count]."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(count))


def make_gradients(
    task: OpenTask, mesh: Mesh, *, micro_batches: int = 1, seed: int = 0
) -> Callable[[Params, jax.Array, Batch], tuple[Params, Metrics]]:
    """A function (params, step, batch) -> (gradient of the loss, losses and scores), both of the global batch.

    Every sum is divided once, by the weight of the whole global batch, known before the forward pass; so neither the
    number of micro-batches nor of devices changes the loss. Dropout depends on (seed, step, row of the global batch).
    """
    graph, random = definition(task), drops(task.config)

    def local(params: Params, step: jax.Array, batch: Batch) -> tuple[Params, Metrics]:
        count = next(iter(batch.values())).shape[0]
        keys = dropout_keys(seed, step, jax.lax.axis_index(DATA) * count, count) if random else None
        weights = jax.lax.psum(task.weights(batch), DATA)
        weights = {name: jnp.maximum(weight, 1.0) for name, weight in weights.items()}
        # Marked as differing between devices, or the transpose would reduce the gradient at every use of a parameter.
        params = jax.lax.pcast(params, DATA, to="varying")

        def loss(params: Params, batch: Batch, keys: jax.Array | None) -> tuple[jax.Array, Metrics]:
            sums, _ = task.sums(bind(graph, params), batch, keys)
            metrics = {name: total / weights[weight] for name, (total, weight) in sums.items()}
            return sum(metrics[name] for name in task.losses), metrics  # type: ignore[return-value]

        gradient = jax.grad(loss, has_aux=True)
        if micro_batches == 1:
            grads, metrics = gradient(params, batch, keys)
        else:
            pieces = jax.tree.map(lambda x: x.reshape(micro_batches, -1, *x.shape[1:]), (batch, keys))
            first = jax.tree.map(lambda x: x[0], pieces)
            zeros = jax.tree.map(
                lambda x: jax.lax.pcast(jnp.zeros(x.shape, x.dtype), DATA, to="varying"),
                jax.eval_shape(gradient, params, *first),
            )
            add = lambda carry, piece: (jax.tree.map(jnp.add, carry, gradient(params, *piece)), None)  # noqa: E731
            (grads, metrics), _ = jax.lax.scan(add, zeros, pieces)
        return jax.lax.psum((grads, metrics), DATA)

    return jax.shard_map(local, mesh=mesh, in_specs=(P(), P(), P(DATA)), out_specs=P())


def make_train_step(
    task: OpenTask,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    *,
    micro_batches: int = 1,
    seed: int = 0,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """A compiled (state, batch) -> (state, metrics); the old state's memory is given away.

    A gradient that is not finite changes neither parameters nor moments: the step counts in `state.skipped`.
    """
    gradients = make_gradients(task, mesh, micro_batches=micro_batches, seed=seed)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, metrics = gradients(state.params, state.step, batch)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        skipped = jnp.where(finite, 0, state.skipped + 1)
        metrics["loss"] = jnp.stack([metrics[name] for name in task.losses]).sum()
        metrics |= {"learning_rate": schedule(state.step), "grad_norm": norm, "skipped": skipped}
        return TrainState(state.step + 1, params, opt_state, skipped), metrics

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(replicated(mesh), rows(mesh)),
        out_shardings=replicated(mesh),
    )


def make_eval_step(
    task: OpenTask, mesh: Mesh
) -> Callable[[Params, Batch], tuple[dict[str, tuple[jax.Array, jax.Array]], dict[str, jax.Array]]]:
    """A compiled (params, batch) -> ({name: (sum, weight)} of the global batch, outputs for each row [B, ...])."""
    graph = definition(task)

    def local(params: Params, batch: Batch) -> Any:
        weights = task.weights(batch)
        sums, outputs = task.sums(bind(graph, params), batch, None)
        pairs = {name: (total, weights[weight]) for name, (total, weight) in sums.items()}
        return jax.lax.psum(pairs, DATA), outputs

    mapped = jax.shard_map(local, mesh=mesh, in_specs=(P(), P(DATA)), out_specs=(P(), P(DATA)))
    return jax.jit(mapped, in_shardings=(replicated(mesh), rows(mesh)))
