"""What training carries from step to step, and how a tree is written by name."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from albert_jax.sharding import replicated
from albert_jax.tasks.base import OpenTask

Params = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Attributes:
    step: updates done, int32
    params: nested dict of float32 arrays
    opt_state: the optimizer's state, named by link
    skipped: updates skipped in a row because a gradient was not finite, int32
    """

    step: jax.Array
    params: Params
    opt_state: Any
    skipped: jax.Array

    def replace(self, **changes: Any) -> "TrainState":
        return dataclasses.replace(self, **changes)


def definition(task: OpenTask) -> nnx.GraphDef:
    """The model's structure without its parameters; touches no device."""
    model = nnx.eval_shape(lambda: task.model(nnx.Rngs(params=jax.random.key(0))))
    return nnx.split(model, nnx.Param)[0]


def bind(graph: nnx.GraphDef, params: Params) -> Any:
    """The module whose parameters are `params`."""
    return nnx.merge(graph, nnx.State(params))


def initial_params(task: OpenTask, seed: int) -> Params:
    """Fresh parameters, a function of the seed alone: the mesh does not enter."""
    return nnx.to_pure_dict(nnx.state(task.model(nnx.Rngs(params=jax.random.key(seed))), nnx.Param))


def abstract_params(task: OpenTask) -> Params:
    """Shapes of the parameters, without arrays."""
    return jax.eval_shape(lambda: initial_params(task, 0))


def create(task: OpenTask, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh) -> TrainState:
    """A state at step 0, born on its devices."""

    def make() -> TrainState:
        params = initial_params(task, seed)
        return TrainState(jnp.int32(0), params, optimizer.init(params), jnp.int32(0))

    return jax.jit(make, out_shardings=replicated(mesh))()


def by_name(tree: Any) -> dict[str, Any]:
    """`tree` as nested dicts of its leaves' names, so that what is written does not depend on tuple positions."""
    nested: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *parents, last = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        place = nested
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = leaf
    return nested


def from_names(template: Any, nested: Mapping[str, Any]) -> Any:
    """A tree like `template` with the leaves that `by_name` put into `nested`."""

    def pick(path: Any, _: Any) -> Any:
        place: Any = nested
        for name in jax.tree_util.keystr(path, simple=True, separator="/").split("/"):
            place = place[name]
        return place

    return jax.tree_util.tree_map_with_path(pick, template)


def count(params: Params) -> int:
    """Numbers in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
