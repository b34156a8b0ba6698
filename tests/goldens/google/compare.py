"""What the tests share that read these goldens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from albert_jax.interop.names import our_shape, table, to_ours
from albert_jax.model.config import AlbertConfig
from albert_jax.optim.links import paths
from tests.goldens.google import draw

GOLDENS = Path(__file__).parent
Arrays = dict[str, np.ndarray]


def flat(tree: Any) -> Arrays:
    """Path to array."""
    return dict(zip(jax.tree.leaves(paths(tree)), map(np.asarray, jax.tree.leaves(tree)), strict=True))


def nested(arrays: Arrays) -> dict[str, Any]:
    """The tree of `flat`."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *parents, last = path.split("/")
        place = tree
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = array
    return tree


def shapes(config: AlbertConfig) -> dict[str, tuple[int, ...]]:
    """The original's pretraining variables of this shape, and theirs."""
    found: dict[str, tuple[int, ...]] = {}
    for row in table(config):
        if row.tf is not None and row.part not in ("classifier", "span"):
            shape = our_shape(row, config)
            found[row.tf] = shape[::-1] if row.tf_transposed else shape  # type: ignore[assignment]
    return found


def drawn(config: AlbertConfig, values: Callable[[str, tuple[int, ...]], np.ndarray]) -> dict[str, Any]:
    """Our tree with each variable set from its name and shape in the original."""
    tensors = {name: values(name, shape) for name, shape in shapes(config).items()}
    return nested(to_ours("tf", tensors, config))


def params(case: str, config: AlbertConfig) -> dict[str, Any]:
    """The case's weights as our tree."""
    return drawn(config, lambda name, shape: draw.weight(case, name, shape))


def apart(vector: np.ndarray, config: AlbertConfig) -> Arrays:
    """Path to array, from the vector that `make.joined` made of the original's variables."""
    tensors, place = {}, 0
    for name, shape in sorted(shapes(config).items()):
        size = int(np.prod(shape))
        tensors[name] = vector[place : place + size].reshape(shape)
        place += size
    assert place == len(vector)
    return to_ours("tf", tensors, config)
