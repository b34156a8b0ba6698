"""A restored model: an Albert with the head that was asked for, and what it returns."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from albert_jax.errors import AlbertError
from albert_jax.interop.names import parts
from albert_jax.interop.safetensors import aligned
from albert_jax.model.albert import Albert
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import MaskedLanguageHead
from albert_jax.model.layers import Dense

Head = Literal["pretrain", "mlm", "classification", "tagging", "span", "choice"]
# What each head needs beside the encoder. Named as the tasks are; "mlm" is "pretrain" without the sentence order.
NEEDED: dict[Head, set[str]] = {
    "pretrain": {"albert/pooler", "mlm", "order"},
    "mlm": {"mlm"},
    "classification": {"albert/pooler", "classifier"},
    "tagging": {"classifier"},
    "span": {"span"},
    "choice": {"albert/pooler", "classifier"},
}


class RestoredOutput(NamedTuple):
    """What a restored model returns; None for what its head does not make. All float32."""

    hidden: jax.Array  # [B, S, D] after the last layer
    pooled: jax.Array | None  # [B, D]; None where the source has no pooler
    all_hidden: jax.Array | None = None  # [L, B, S, D] after each layer, when asked for
    mlm_logits: jax.Array | None = None  # [B, P, V] at the positions given
    order_logits: jax.Array | None = None  # [B, 2]: 0 in order, 1 swapped
    logits: jax.Array | None = None  # [B, C] of a classification or choice, [B, S, C] of a tagging
    start_logits: jax.Array | None = None  # [B, S]
    end_logits: jax.Array | None = None  # [B, S]


class RestoredAlbert(nnx.Module):
    """An Albert under `albert` and its head beside it, under the names of `albert_jax.model.heads`.

    Attributes: `config`, `head` (None: the encoder alone), `pools` (the source has a pooler).
    """

    def __init__(self, config: AlbertConfig, head: Head | None, classes: int, pools: bool, *, rngs: nnx.Rngs):
        self.config, self.head, self.pools = config, head, pools
        self.albert = Albert(config, rngs=rngs)
        if not pools:
            del self.albert.pooler

        def dense(size: int) -> Dense:
            return Dense(config.hidden_size, size, deviation=config.initializer_range, rngs=rngs)

        needed = NEEDED[head] if head else set()
        if "mlm" in needed:
            self.mlm = MaskedLanguageHead(config, rngs=rngs)
        if "order" in needed:
            self.order = dense(2)
        if "classifier" in needed:
            self.classifier = dense(classes)
        if "span" in needed:
            self.span = dense(2)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as a nested dict of arrays."""
        return nnx.to_pure_dict(nnx.state(self, nnx.Param))

    def __call__(
        self,
        input_ids: Any,
        segment_ids: Any = None,
        mask: Any = None,
        positions: Any = None,
        *,
        all_hidden: bool = False,
    ) -> RestoredOutput:
        """Activations without dropout, compiled for each new shape, at the highest matrix precision.

        Args:
          input_ids: pieces, int [B, S] ([B, C, S] with the choice head)
          segment_ids: 0 for the first and 1 for the second text, as input_ids; zeros when not given
          mask: true for real tokens, as input_ids; all true when not given
          positions: where the MLM logits are wanted, int [B, P]; needed by the heads "pretrain" and "mlm"
          all_hidden: also return the states after each layer

        Raises AlbertError for an id, segment or position outside its table, shapes that do not fit, a mask of other
        values than true and false (or 1 and 0), and sequences longer than the position table.
        """
        input_ids = _whole(input_ids, "input_ids", self.config.vocab_size)
        segment_ids = np.zeros(input_ids.shape, np.int32) if segment_ids is None else segment_ids
        segment_ids = _whole(segment_ids, "segment_ids", self.config.segment_types)
        mask = np.ones(input_ids.shape, bool) if mask is None else _truth(mask)
        wanted = 3 if self.head == "choice" else 2
        if input_ids.ndim != wanted or not input_ids.shape == segment_ids.shape == mask.shape:
            raise AlbertError(
                f"input_ids {input_ids.shape}, segment_ids {segment_ids.shape} and mask {mask.shape} must have "
                f"one shape {'[B, C, S]' if wanted == 3 else '[B, S]'}"
            )
        if positions is not None:
            if not hasattr(self, "mlm"):
                raise AlbertError(f"positions are for MLM logits, and this model has the head {self.head!r}; "
                                  'load it with head="pretrain" or head="mlm"')  # fmt: skip
            positions = _whole(positions, "positions", input_ids.shape[-1])
            if positions.ndim != 2 or len(positions) != len(input_ids):
                raise AlbertError(f"positions {positions.shape} must be [B, P] for input_ids {input_ids.shape}")
        graph, state = nnx.split(self, nnx.Param)
        with jax.default_matmul_precision("highest"):  # a TPU or GPU would round float32 products otherwise
            return _run(graph, state, input_ids, segment_ids, mask, positions, all_hidden=all_hidden)

    def forward(
        self, input_ids: jax.Array, segment_ids: jax.Array, mask: jax.Array, positions: Any, all_hidden: bool
    ) -> RestoredOutput:
        """What `__call__` compiles."""
        shape = input_ids.shape
        input_ids, segment_ids, mask = (x.reshape(-1, shape[-1]) for x in (input_ids, segment_ids, mask))
        hidden, pooled, states = self._encode(input_ids, segment_ids, mask, all_hidden)
        out: dict[str, jax.Array] = {}
        if hasattr(self, "mlm") and positions is not None:
            out["mlm_logits"] = self.mlm(hidden, positions, self.albert.embeddings.word[...])
        if hasattr(self, "order"):
            out["order_logits"] = self.order(pooled)
        if self.head == "span":
            start_and_end = self.span(hidden)
            out |= {"start_logits": start_and_end[..., 0], "end_logits": start_and_end[..., 1]}
        if hasattr(self, "classifier"):
            logits = self.classifier(hidden if self.head == "tagging" else pooled)
            out["logits"] = logits.reshape(shape[:2]) if self.head == "choice" else logits
        found = RestoredOutput(hidden, pooled, states, **out)
        return jax.tree.map(lambda x: x.astype(jnp.float32), found)

    def _encode(self, input_ids: jax.Array, segment_ids: jax.Array, mask: jax.Array, all_hidden: bool) -> Any:
        albert = self.albert
        if self.pools:
            return albert(input_ids, segment_ids, mask, all_hidden=all_hidden)
        x = albert.embeddings(input_ids, segment_ids, None).astype(jnp.dtype(self.config.compute_dtype))
        if hasattr(albert, "projection"):
            x = albert.projection(x)
        hidden, states = albert.encoder(x, mask.astype(bool), None, all_hidden)
        return hidden, None, states


def _forward(graph: nnx.GraphDef, state: nnx.State, *inputs: Any, all_hidden: bool) -> RestoredOutput:
    return nnx.merge(graph, state).forward(*inputs, all_hidden)


_run = jax.jit(_forward, static_argnums=0, static_argnames="all_hidden")


def _whole(values: Any, name: str, below: int) -> Any:
    """`values` as an array of whole numbers in [0, below). Indexing past a table would clamp without a word."""
    if isinstance(values, jax.core.Tracer):
        return values
    array = _array(values, name)
    if array.dtype.kind not in "iu":
        raise AlbertError(f"{name} are {array.dtype}, not whole numbers")
    if array.min() < 0 or array.max() >= below:
        wrong = array[(array < 0) | (array >= below)].flat[0]
        raise AlbertError(f"{name} hold {wrong}, outside 0..{below - 1}; do they come from another vocabulary?")
    return array.astype(np.int32)


def _truth(values: Any) -> Any:
    """`values` as an array of true and false, from these or from 1 and 0."""
    if isinstance(values, jax.core.Tracer):
        return values
    array = _array(values, "mask")
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise AlbertError(f"mask is {array.dtype} with other values than true and false, or 1 and 0")
    return array.astype(bool)


def _array(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise AlbertError(f"{name} have rows of different lengths; pad them to one, and give a mask") from error
    if not array.size:
        raise AlbertError(f"{name} {array.shape} hold nothing")
    return array


def build(config: AlbertConfig, head: Head | None, flat: dict[str, np.ndarray], source: str) -> RestoredAlbert:
    """The model whose parameters are `flat` (path -> array, see `names.to_ours`); parts that it does not use are left.
    It computes in float32 whatever `config` was trained in.

    Takes the arrays out of `flat` as it goes. Raises AlbertError when the head's parameters are not there.
    """
    if head is not None and head not in NEEDED:
        raise AlbertError(f"there is no head {head!r}; choose {', '.join(NEEDED)}, or None for the encoder alone")
    config = dataclasses.replace(config, compute_dtype="float32", attention="xla", remat="none", scan=True)
    there = parts(flat)
    lacking = sorted((NEEDED[head] if head else set()) - there)
    if lacking:
        raise AlbertError(
            f"{source}: the head {head!r} needs {', '.join(lacking)}, which the source does not have; it has "
            f"{', '.join(sorted(there))}"
        )
    classes = flat["classifier/kernel"].shape[1] if "classifier/kernel" in flat else 0
    if head == "choice" and classes != 1:
        raise AlbertError(f"{source}: a choice has one number for each text and this classifier has {classes} classes; "
                          'use head="classification"')  # fmt: skip
    pools = "albert/pooler" in there
    model = nnx.eval_shape(
        lambda: RestoredAlbert(config, head, classes, pools, rngs=nnx.Rngs(params=jax.random.key(0)))
    )
    graph, state = nnx.split(model, nnx.Param)
    nested = nnx.to_pure_dict(state)

    def put(path: Any, _: Any) -> jax.Array:
        array = flat.pop(jax.tree_util.keystr(path, simple=True, separator="/"))
        if array.ctypes.data % 64:
            unaligned, array = array, aligned(array.shape)
            array[...] = unaligned
        return jax.device_put(array)

    return nnx.merge(graph, nnx.State(jax.tree_util.tree_map_with_path(put, nested)))
