"""One optimizer step and one evaluation step, as pure functions of arrays.

ALBERT applies one block many times, so its weights need to cross the network once a step. Plain `jit` does not find
this: it gathers and reduces the block in every layer. Here the forward and backward pass run under `jax.shard_map`:
each device gathers the parameters once, works on its rows of the batch with that copy, and the gradient is reduced
once, after the last layer of the last micro-batch. The optimizer then runs outside, on global arrays that are divided
over devices, so a norm is a norm of the whole variable. `tests/engine/test_contract.py` reads all
this off programs compiled for TPU slices.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from albert_jax.engine.sharding import DATA, FSDP, ROWS, SLICE, TENSOR, Layout
from albert_jax.engine.state import Params, TrainState, bind, definition, shardings
from albert_jax.model.config import AlbertConfig
from albert_jax.model.layers import shard_activations
from albert_jax.tasks.base import Batch, Objective
from albert_jax.trees import map_with_path

Metrics = dict[str, jax.Array]


def drops(config: AlbertConfig) -> bool:
    """Whether a training step draws random numbers at all."""
    return bool(config.hidden_dropout or config.attention_dropout or config.classifier_dropout)


def dropout_keys(seed: int, step: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """A key for each of `count` rows of the global batch from row `first` on, [count]."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(count))


def _tensor_part(path: str, layout: Layout) -> P:
    """The place of a parameter along the one axis that may be automatic."""
    spec = [axis if axis == TENSOR else None for axis in layout.stored[path]]
    return P(*spec, *[None] * (len(layout.shapes[path]) - len(spec)))


def _along_tensor(collective: Callable[[jax.Array], jax.Array], layout: Layout, path: str) -> Any:
    """`collective` with the tensor axis manual too, should it be automatic around it: the compiler would first gather
    the operand along tensor, for it divides no collective that a program states."""
    if not layout.activations:
        return collective
    spec = _tensor_part(path, layout)
    return jax.shard_map(collective, in_specs=spec, out_specs=spec, axis_names={TENSOR})


def _gather(params: Params, layout: Layout) -> Params:
    """Whole parameters from this device's parts, in one trip; inside `shard_map`."""

    def whole(path: str, x: jax.Array) -> jax.Array:
        axis = layout.fsdp_axis(path)
        rest: tuple[str, ...] = ROWS
        if axis is not None and layout.gathers(path):
            x = _along_tensor(lambda x: jax.lax.all_gather(x, FSDP, axis=axis, tiled=True), layout, path)(x)
            rest = (SLICE, DATA)
        # Marked as differing between devices, or the transpose would reduce the gradient at every use of a parameter.
        x = jax.lax.pcast(x, rest, to="varying")
        return jax.lax.with_sharding_constraint(x, _tensor_part(path, layout)) if layout.activations else x

    return map_with_path(whole, params)


def _reduce(grads: Params, layout: Layout) -> Params:
    """Sums of the devices' gradients, each where it lives: over fsdp first, so that only a part crosses to the other
    copies and slices; inside `shard_map`."""
    over = jnp.dtype(layout.config.reduce_dtype)

    def total(path: str, grad: jax.Array) -> jax.Array:
        axis = layout.fsdp_axis(path)

        def reduce(x: jax.Array) -> jax.Array:
            if axis is None:
                return jax.lax.psum(x, ROWS)
            x = jax.lax.psum_scatter(x, FSDP, scatter_dimension=axis, tiled=True)
            return jax.lax.psum(x, (SLICE, DATA))

        return _along_tensor(reduce, layout, path)(grad.astype(over)).astype(grad.dtype)

    return map_with_path(total, grads)


def _specs(tree: Any, specs: dict[str, P]) -> Any:
    """`specs` as a tree like the parameters, without the axis that the compiler follows by itself."""
    return map_with_path(lambda path, _: P(*(None if axis == TENSOR else axis for axis in specs[path])), tree)


def make_gradients(
    task: Objective, layout: Layout, *, micro_batches: int = 1, seed: int = 0, replica_clip: float = 0.0
) -> Callable[[Params, jax.Array, Batch], tuple[Params, Metrics]]:
    """A function (params, step, batch) -> (gradient of the loss, losses and scores), both of the global batch.

    Every sum is divided once, by the weight of the whole global batch, known before the forward pass; so neither the
    number of micro-batches nor of devices changes the loss. Dropout depends on (seed, step, row of the global batch).

    `replica_clip` > 0 is the original's rule on TPUs (`optimization.py` under CrossShardOptimizer): each device takes
    the gradient of the mean loss of its own rows, clips it to that norm, and the sum of all is the gradient. It grows
    with the number of devices, which LAMB forgives; the losses told are still those of the global batch.
    """
    graph, random = definition(task), drops(task.config)

    def local(params: Params, step: jax.Array, batch: Batch) -> tuple[Params, Metrics]:
        count = next(iter(batch.values())).shape[0]
        keys = dropout_keys(seed, step, jax.lax.axis_index(ROWS) * count, count) if random else None
        own = {name: jnp.maximum(weight, 1.0) for name, weight in task.weights(batch).items()}
        weights = jax.lax.psum(task.weights(batch), ROWS)
        weights = {name: jnp.maximum(weight, 1.0) for name, weight in weights.items()}
        params = _gather(params, layout)

        def loss(params: Params, batch: Batch, keys: jax.Array | None) -> tuple[jax.Array, Metrics]:
            with shard_activations(layout.activations):
                sums, _ = task.sums(bind(graph, params), batch, keys)
            metrics = {name: total / weights[weight] for name, (total, weight) in sums.items()}
            if replica_clip:
                return sum(sums[name][0] / own[sums[name][1]] for name in task.losses), metrics  # type: ignore
            return sum(metrics[name] for name in task.losses), metrics

        gradient = jax.grad(loss, has_aux=True)
        if micro_batches == 1:
            grads, metrics = gradient(params, batch, keys)
        else:
            pieces = jax.tree.map(lambda x: x.reshape(micro_batches, -1, *x.shape[1:]), (batch, keys))
            first = jax.tree.map(lambda x: x[0], pieces)
            zeros = jax.tree.map(
                lambda x: jax.lax.pcast(jnp.zeros(x.shape, x.dtype), ROWS, to="varying"),
                jax.eval_shape(gradient, params, *first),
            )
            add = lambda carry, piece: (jax.tree.map(jnp.add, carry, gradient(params, *piece)), None)  # noqa: E731
            (grads, metrics), _ = jax.lax.scan(add, zeros, pieces)
        if replica_clip:
            shrink = jnp.minimum(1.0, replica_clip / optax.tree.norm(grads))
            grads = jax.tree.map(lambda grad: grad * shrink, grads)
        return _reduce(grads, layout), jax.lax.psum(metrics, ROWS)

    def gradients(params: Params, step: jax.Array, batch: Batch) -> tuple[Params, Metrics]:
        return jax.shard_map(
            local,
            mesh=layout.mesh,
            in_specs=(_specs(params, layout.stored), P(), P(ROWS)),
            out_specs=(_specs(params, layout.divided), P()),
            axis_names=set(layout.manual),
        )(params, step, batch)

    return gradients


def make_train_step(
    task: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    layout: Layout,
    *,
    micro_batches: int = 1,
    seed: int = 0,
    replica_clip: float = 0.0,
) -> Any:
    """A jitted (state, batch) -> (state, metrics); the old state's memory is given away. `replica_clip` as in
    `make_gradients`.

    A gradient that is not finite changes neither parameters nor moments: the step counts in `state.skipped`.
    """
    gradients = make_gradients(task, layout, micro_batches=micro_batches, seed=seed, replica_clip=replica_clip)

    def divided(path: str, x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, layout.divided[path]))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, metrics = gradients(state.params, state.step, batch)
        # Gradient, moments and update live divided; under ZeRO-1 the parameters join them and are gathered at the end.
        grads, before = map_with_path(divided, grads), map_with_path(divided, state.params)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm)
        updates, opt_state = optimizer.update(grads, state.opt_state, before)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (optax.apply_updates(before, updates), opt_state),
            (before, state.opt_state),
        )
        params = map_with_path(divided, params)
        skipped = jnp.where(finite, 0, state.skipped + 1)
        metrics["loss"] = jnp.stack([metrics[name] for name in task.losses]).sum()
        metrics |= {"learning_rate": schedule(state.step), "grad_norm": norm, "skipped": skipped}
        new = TrainState(state.step + 1, params, opt_state, skipped)
        return jax.tree.map(jax.lax.with_sharding_constraint, new, shardings(new, layout)), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(None, layout.replicated))


def make_eval_step(task: Objective, layout: Layout) -> Any:
    """A jitted (params, batch) -> ({name: (sum, weight)} of the global batch, outputs for each row [B, ...]), all whole
    on every device. The outputs have the batch's `example_weight` beside them, 0 for rows that only fill it up."""
    graph = definition(task)

    def local(params: Params, batch: Batch) -> Any:
        weights = task.weights(batch)
        with shard_activations(layout.activations):
            sums, outputs = task.sums(bind(graph, _gather(params, layout)), batch, None)
        pairs = {name: (total, weights[weight]) for name, (total, weight) in sums.items()}
        return jax.lax.psum(pairs, ROWS), outputs | {"example_weight": batch["example_weight"]}

    def step(params: Params, batch: Batch) -> Any:
        specs = (_specs(params, layout.stored), P(ROWS))
        return jax.shard_map(
            local, mesh=layout.mesh, in_specs=specs, out_specs=(P(), P(ROWS)), axis_names=set(layout.manual)
        )(params, batch)

    return jax.jit(step, out_shardings=layout.replicated)
