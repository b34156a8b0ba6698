"""Trees of arrays by path. A leaf has one name, such as "albert/encoder/group_0/block_0/attention/query/kernel", in
checkpoints, in rules for sharding and in messages."""

from collections.abc import Callable, Mapping
from typing import Any

import jax


def path_of(keys: Any) -> str:
    """The path "a/b/c" of a leaf that `jax.tree_util` gives as keys: those of dicts, fields and positions alike."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def map_with_path(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """A tree like `tree` of `function(path, leaf)`."""
    return jax.tree_util.tree_map_with_path(lambda keys, leaf: function(path_of(keys), leaf), tree)


def flatten(tree: Any) -> dict[str, Any]:
    """Path -> leaf, in the order of the tree."""
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflatten(template: Any, flat: Mapping[str, Any]) -> Any:
    """A tree like `template` with the leaves of `flat`, path -> leaf. Raises KeyError for a path that `flat` lacks."""
    return map_with_path(lambda path, _: flat[path], template)


def by_name(tree: Any) -> dict[str, Any]:
    """`tree` as nested dicts that are keyed by the parts of its leaves' paths."""
    # Checkpoints hold this form: an optimizer's state is tuples and classes of optax, whose order and Python types may
    # change with a release, while a run must go on.
    nested: dict[str, Any] = {}
    for path, leaf in flatten(tree).items():
        *parents, last = path.split("/")
        branch = nested
        for name in parents:
            branch = branch.setdefault(name, {})
        branch[last] = leaf
    return nested


def from_names(template: Any, nested: Mapping[str, Any]) -> Any:
    """The inverse of `by_name`: a tree like `template` with the leaves of `nested`."""
    return unflatten(template, flatten(nested))
