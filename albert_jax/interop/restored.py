"""A restored model: `AlbertWithHead` behind checks of its inputs, compiled, without dropout."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax import Array

from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.interop.names import parts
from albert_jax.interop.safetensors import aligned
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import HEADS, AlbertWithHead, Head
from albert_jax.trees import map_with_path

# What each head needs in the source beside the encoder.
NEEDED: dict[Head, set[str]] = {
    head: {*found, *("albert/pooler" for part in found.values() if part.reads == "pooled")}
    for head, found in HEADS.items()
}


class RestoredOutput(NamedTuple):
    """What a restored model returns; None for what its head does not make. All float32."""

    hidden: Array  # [B, S, D] after the last layer
    pooled: Array | None  # [B, D]; None where the source has no pooler
    all_hidden: Array | None = None  # [L, B, S, D] after each layer, when asked for
    mlm_logits: Array | None = None  # [B, P, V] at the positions given
    order_logits: Array | None = None  # [B, 2]: 0 in order, 1 swapped
    logits: Array | None = None  # [B, C] of a classification or choice, [B, S, C] of a tagging
    start_logits: Array | None = None  # [B, S]
    end_logits: Array | None = None  # [B, S]


class RestoredAlbert(AlbertWithHead):
    """What `albert_jax.load` returns: `albert`, `config`, `head` (None: no head), `pools` (the source has a pooler)."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as a nested dict of arrays."""
        return nnx.to_pure_dict(nnx.state(self, nnx.Param))

    def __call__(
        self,
        input_ids: Any,  # pieces, int [B, S] ([B, C, S] with the choice head)
        segment_ids: Any = None,  # 0 for the first and 1 for the second text, as input_ids; zeros when not given
        mask: Any = None,  # true for real tokens, as input_ids; all true when not given
        positions: Any = None,  # of the MLM logits, int [B, P]; needed by the heads "pretrain" and "mlm"
        *,
        all_hidden: bool = False,  # also return the states after each layer
    ) -> RestoredOutput:
        """Activations without dropout, compiled for each new shape, at the highest matrix precision.

        Raises AlbertError for an id, segment or position outside its table, shapes that do not fit, a mask of other
        values than true and false (or 1 and 0), and sequences longer than the position table.
        """
        input_ids = _array(input_ids, "input_ids", self.config.vocab_size)
        segment_ids = np.zeros(input_ids.shape, np.int32) if segment_ids is None else segment_ids
        segment_ids = _array(segment_ids, "segment_ids", self.config.segment_types)
        mask = np.ones(input_ids.shape, bool) if mask is None else _array(mask, "mask")
        if positions is not None:
            positions = _array(positions, "positions", input_ids.shape[-1] if input_ids.ndim else 1)
        refuse(self._misfits(input_ids, segment_ids, mask, positions))
        graph, state = nnx.split(self, nnx.Param)
        with jax.default_matmul_precision("highest"):  # a TPU or GPU would round float32 products otherwise
            return _run(graph, state, input_ids, segment_ids, mask, positions, all_hidden=all_hidden)

    def _misfits(self, input_ids: Any, segment_ids: Any, mask: Any, positions: Any) -> Iterator[str]:
        wanted = "[B, C, S]" if self.head == "choice" else "[B, S]"
        if input_ids.ndim != wanted.count(",") + 1 or not input_ids.shape == segment_ids.shape == mask.shape:
            shapes = f"input_ids {input_ids.shape}, segment_ids {segment_ids.shape} and mask {mask.shape}"
            yield f"{shapes} must have one shape {wanted}"
        if positions is not None and not hasattr(self, "mlm"):
            fact = f"positions are for MLM logits, and this model has the head {self.head!r}"
            yield f'{fact}; load it with head="pretrain" or head="mlm"'
        if positions is not None and (positions.ndim != 2 or len(positions) != len(input_ids)):
            yield f"positions {positions.shape} must be [B, P] for input_ids {input_ids.shape}"


@partial(jax.jit, static_argnums=0, static_argnames="all_hidden")
def _run(graph: nnx.GraphDef, state: nnx.State, *inputs: Any, all_hidden: bool) -> RestoredOutput:
    encoded, logits = nnx.merge(graph, state).outputs(*inputs, all_hidden=all_hidden)
    return RestoredOutput(*encoded, **logits)


def _array(values: Any, name: str, rows: int = 0) -> Any:
    """`values`, lists or arrays, as an int32 array of row numbers of a table; where `rows` is 0, as true and false."""
    if isinstance(values, jax.core.Tracer):  # has no values to check yet
        return values
    with retold(lambda _: f"{name} have rows of different lengths; pad them to one, and give a mask", ValueError):
        array = np.asarray(values)
    if not array.size:
        raise AlbertError(f"{name} {array.shape} hold nothing")
    if not rows:
        if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
            raise AlbertError(f"{name} is {array.dtype} with other values than true and false, or 1 and 0")
        return array.astype(bool)
    if array.dtype.kind not in "iu":
        raise AlbertError(f"{name} are {array.dtype}, not whole numbers")
    outside = array[(array < 0) | (array >= rows)]
    if outside.size:  # indexing past a table would clamp silently
        raise AlbertError(f"{name} hold {outside[0]}, outside 0..{rows - 1}; do they come from another vocabulary?")
    return array.astype(np.int32)


def build(config: AlbertConfig, head: Head | None, flat: dict[str, np.ndarray], source: str) -> RestoredAlbert:
    """The model whose parameters are `flat` (path -> array, see `names.to_ours`), in float32 whatever `config` was
    trained in. Parts that it does not use are left in `flat`, all others taken out as it goes, so that no two copies of
    the model exist at once. Raises AlbertError when the head's parameters are not in `flat`.
    """
    classes = flat["classifier/kernel"].shape[1] if "classifier/kernel" in flat else 0
    if head is not None:
        refuse(_head_misfits(head, classes, flat, source))
    config = dataclasses.replace(config, compute_dtype="float32", attention="xla", remat="none", scan=True)
    pools = "albert/pooler" in parts(flat)
    model = nnx.eval_shape(lambda: RestoredAlbert(config, head, classes, pools, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model, nnx.Param)

    def put(path: str, _: Any) -> Array:
        array = flat.pop(path)
        if array.ctypes.data % 64:  # JAX on CPU takes memory over as it is only where it is aligned so
            unaligned, array = array, aligned(array.shape)
            array[...] = unaligned
        return jax.device_put(array)

    return nnx.merge(graph, nnx.State(map_with_path(put, nnx.to_pure_dict(state))))


def _head_misfits(head: Head, classes: int, flat: Mapping[str, np.ndarray], source: str) -> Iterator[str]:
    if head not in HEADS:
        yield f"there is no head {head!r}; choose {', '.join(HEADS)}, or None for the encoder alone"
    if lacking := sorted(NEEDED[head] - parts(flat)):
        has = ", ".join(sorted(parts(flat)))
        yield f"{source}: the head {head!r} needs {', '.join(lacking)}, which the source does not have; it has {has}"
    if head == "choice" and classes != 1:
        fact = f"a choice has one number for each text and this classifier has {classes} classes"
        yield f'{source}: {fact}; use head="classification"'
