"""What training carries from step to step."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from albert_jax.engine.sharding import TENSOR, Layout, MeshConfig
from albert_jax.errors import AlbertError
from albert_jax.model.layers import Axes
from albert_jax.tasks.base import Objective
from albert_jax.trees import flatten, map_with_path

Params = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What one step hands to the next, and a checkpoint holds."""

    step: jax.Array  # updates done, int32
    params: Params  # nested dict of float32 arrays
    opt_state: Any  # the optimizer's state, named by link
    skipped: jax.Array  # updates skipped in a row because a gradient was not finite, int32

    def replace(self, **changes: Any) -> "TrainState":
        return dataclasses.replace(self, **changes)


def definition(task: Objective) -> nnx.GraphDef[Any]:
    """The model's structure without its parameters; touches no device."""
    model = nnx.eval_shape(lambda: task.model(nnx.Rngs(params=jax.random.key(0))))
    return nnx.split(model, nnx.Param)[0]


def bind(graph: nnx.GraphDef[Any], params: Params) -> Any:
    """The module whose parameters are `params`."""
    return nnx.merge(graph, nnx.State(params))


def initial_params(task: Objective, seed: int) -> Params:
    """Fresh parameters, a function of the seed alone: the mesh does not enter."""
    return nnx.to_pure_dict(nnx.state(task.model(nnx.Rngs(params=jax.random.key(seed))), nnx.Param))


def abstract_params(task: Objective) -> Params:
    """Shapes of the parameters, without arrays."""
    return jax.eval_shape(lambda: initial_params(task, 0))


def logical_axes(task: Objective) -> dict[str, Axes]:
    """Path -> logical axes of every parameter, padded with None to its rank; touches no device."""
    model = nnx.eval_shape(lambda: task.model(nnx.Rngs(params=jax.random.key(0))))
    found = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        axes = variable.get_metadata().get("axes", ())
        found["/".join(map(str, path))] = (*axes, *[None] * (len(variable.shape) - len(axes)))
    return found


def lay_out(task: Objective, config: MeshConfig, devices: list[Any] | None = None, mesh: Mesh | None = None) -> Layout:
    """Where the task's parameters live on the mesh that `config` makes of `devices` (default: all).

    Raises AlbertError when the mesh does not fit the devices or a parameter does not divide.
    """
    mesh = config.build(devices) if mesh is None else mesh
    tensor = mesh.shape[TENSOR]
    if task.config.heads % tensor:
        raise AlbertError(
            f"model.heads {task.config.heads} does not divide over the {tensor} devices of {TENSOR!r}; "
            f"make mesh.shape's {TENSOR!r} a divisor of the heads"
        )
    shapes = {path: leaf.shape for path, leaf in flatten(abstract_params(task)).items()}
    return config.lay_out(shapes, logical_axes(task), mesh)


def shardings(tree: Any, layout: Layout) -> Any:
    """A tree like `tree` (parameters, optimizer's state or a whole TrainState) of where each leaf lives."""
    return map_with_path(lambda path, _: NamedSharding(layout.mesh, layout.spec(path.removeprefix("params/"))), tree)


def _initial(task: Objective, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    params = initial_params(task, seed)
    return TrainState(jnp.int32(0), params, optimizer.init(params), jnp.int32(0))


def abstract_state(task: Objective, optimizer: optax.GradientTransformation, layout: Layout) -> TrainState:
    """The shapes, dtypes and shardings of a state, without arrays."""
    shapes = jax.eval_shape(lambda: _initial(task, optimizer, 0))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes, shardings(shapes, layout)
    )


def create(task: Objective, optimizer: optax.GradientTransformation, seed: int, layout: Layout) -> TrainState:
    """A state at step 0, born on its devices, no array of it ever whole on one of them unless it lives so."""
    homes = jax.tree.map(lambda x: x.sharding, abstract_state(task, optimizer, layout))
    return jax.jit(lambda: _initial(task, optimizer, seed), out_shardings=homes)()


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """`params` with the arrays that `values` has by path, each where its parameter lives."""
    return map_with_path(
        # Straight to where each lives: a whole copy on one device may be more than it holds.
        lambda path, leaf: jax.device_put(values[path], leaf.sharding) if path in values else leaf,
        params,
    )


def count(params: Params) -> int:
    """Numbers in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
