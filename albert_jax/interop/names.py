"""The one table of names: what each of our arrays is called in a Google checkpoint and in a Hugging Face directory, and
whether it lies there transposed. Both directions of every conversion read it.

A conversion is total: each source tensor is used once and each of our arrays is filled once, or an AlbertError names
both sides. Names: google-research/albert `modeling.py`, `run_pretraining.py`, `classifier_utils.py`, `squad_utils.py`;
huggingface/transformers `modeling_albert.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from albert_jax.errors import AlbertError
from albert_jax.interop.safetensors import aligned
from albert_jax.model.config import AlbertConfig

Kind = Literal["tf", "hf"]


@dataclass(frozen=True)
class Row:
    """One array.

    Attributes:
      ours: path in our parameter tree
      tf: variable name in a TF 1 checkpoint, None where it has none
      hf: name in a Hugging Face state dict, under its longest form ("albert.embeddings...")
      shape: our shape in dimension letters; C (classes) is whatever the source has
      tf_transposed, hf_transposed: the source holds the transpose
    """

    ours: str
    tf: str | None
    hf: str
    shape: str
    tf_transposed: bool = False
    hf_transposed: bool = False

    @property
    def part(self) -> str:
        """What is there as a whole or not at all: the encoder (always there), the pooler, or a head."""
        return "albert/pooler" if self.ours.startswith("albert/pooler/") else self.ours.split("/")[0]

    def name(self, kind: Kind) -> str | None:
        return self.tf if kind == "tf" else self.hf

    def transposed(self, kind: Kind) -> bool:
        return self.tf_transposed if kind == "tf" else self.hf_transposed


def _dense(ours: str, tf: str, hf: str, shape: str) -> list[Row]:
    """Kernel [in, out] in TF, [out, in] in torch's Linear."""
    return [
        Row(f"{ours}/kernel", f"{tf}/kernel", f"{hf}.weight", shape, hf_transposed=True),
        Row(f"{ours}/bias", f"{tf}/bias", f"{hf}.bias", shape[1]),
    ]


def _output(ours: str, tf: str | None, hf: str, shape: str) -> list[Row]:
    """A head that Google keeps as output_weights [out, in] and output_bias."""
    return [
        Row(f"{ours}/kernel", tf and f"{tf}weights", f"{hf}.weight", shape, tf_transposed=True, hf_transposed=True),
        Row(f"{ours}/bias", tf and f"{tf}bias", f"{hf}.bias", shape[1]),
    ]


def _norm(ours: str, tf: str, hf: str, shape: str) -> list[Row]:
    return [
        Row(f"{ours}/scale", f"{tf}/gamma", f"{hf}.weight", shape),
        Row(f"{ours}/bias", f"{tf}/beta", f"{hf}.bias", shape),
    ]


# {g} group, {i} block in the group. X: segment types; 2: a number, not a letter.
_EMBEDDINGS = [
    Row("albert/embeddings/word", "bert/embeddings/word_embeddings", "albert.embeddings.word_embeddings.weight", "VE"),
    Row("albert/embeddings/segment", "bert/embeddings/token_type_embeddings",
        "albert.embeddings.token_type_embeddings.weight", "XE"),
    Row("albert/embeddings/position", "bert/embeddings/position_embeddings",
        "albert.embeddings.position_embeddings.weight", "SE"),
    *_norm("albert/embeddings/layer_norm", "bert/embeddings/LayerNorm", "albert.embeddings.LayerNorm", "E"),
]  # fmt: skip
_PROJECTION = _dense("albert/projection", "bert/encoder/embedding_hidden_mapping_in",
                     "albert.encoder.embedding_hidden_mapping_in", "ED")  # fmt: skip
_OURS, _TF = "albert/encoder/group_{g}/block_{i}", "bert/encoder/transformer/group_{g}/inner_group_{i}"
_HF = "albert.encoder.albert_layer_groups.{g}.albert_layers.{i}"
_BLOCK = [
    *_dense(f"{_OURS}/attention/query", f"{_TF}/attention_1/self/query", f"{_HF}.attention.query", "DD"),
    *_dense(f"{_OURS}/attention/key", f"{_TF}/attention_1/self/key", f"{_HF}.attention.key", "DD"),
    *_dense(f"{_OURS}/attention/value", f"{_TF}/attention_1/self/value", f"{_HF}.attention.value", "DD"),
    *_dense(f"{_OURS}/attention/output", f"{_TF}/attention_1/output/dense", f"{_HF}.attention.dense", "DD"),
    *_norm(f"{_OURS}/attention_layer_norm", f"{_TF}/LayerNorm", f"{_HF}.attention.LayerNorm", "D"),
    *_dense(f"{_OURS}/feed_forward/intermediate", f"{_TF}/ffn_1/intermediate/dense", f"{_HF}.ffn", "DF"),
    *_dense(f"{_OURS}/feed_forward/output", f"{_TF}/ffn_1/intermediate/output/dense", f"{_HF}.ffn_output", "FD"),
    *_norm(f"{_OURS}/feed_forward_layer_norm", f"{_TF}/LayerNorm_1", f"{_HF}.full_layer_layer_norm", "D"),
]
_HEADS = [
    *_dense("albert/pooler", "bert/pooler/dense", "albert.pooler", "DD"),
    *_dense("mlm/dense", "cls/predictions/transform/dense", "predictions.dense", "DE"),
    *_norm("mlm/layer_norm", "cls/predictions/transform/LayerNorm", "predictions.LayerNorm", "E"),
    Row("mlm/bias", "cls/predictions/output_bias", "predictions.bias", "V"),
    *_output("order", "cls/seq_relationship/output_", "sop_classifier.classifier", "D2"),
    *_output("classifier", "output_", "classifier", "DC"),
    *_output("span", "cls/squad/output_", "qa_outputs", "D2"),
]

# Training state of the original's optimizers beside each variable, and the step.
_TF_SKIPPED = re.compile(r"(^|/)(adam_m|adam_v|lamb_m|lamb_v|global_step)$")
# Buffers that older transformers stored: row numbers and zeros, no parameters.
_HF_BUFFERS = re.compile(r"^(albert\.)?embeddings\.(position_ids|token_type_ids)$")
# Hugging Face's second name of a tied tensor, and the first.
_HF_TIED = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
_HF_PROJECTION = {row.hf for row in _PROJECTION}


@cache
def table(config: AlbertConfig) -> tuple[Row, ...]:
    """The rows of a model of this shape, in the order of our tree; without the projection when E equals D."""
    rows = list(_EMBEDDINGS)
    if config.embedding_size != config.hidden_size:
        rows += _PROJECTION
    for group in range(config.groups):
        for inner in range(config.inner_groups):
            for row in _BLOCK:
                ours, tf, hf = (text.format(g=group, i=inner) for text in (row.ours, row.tf or "", row.hf))
                rows.append(Row(ours, tf, hf, row.shape, row.tf_transposed, row.hf_transposed))
    return tuple(rows + _HEADS)


def our_shape(row: Row, config: AlbertConfig) -> tuple[int | None, ...]:
    """Our shape of a row, None for a dimension that the configuration does not tell (the classes of a head)."""
    sizes = {
        "V": config.vocab_size, "E": config.embedding_size, "D": config.hidden_size, "F": config.feed_forward_size,
        "S": config.max_positions, "X": config.segment_types, "2": 2, "C": None,
    }  # fmt: skip
    return tuple(sizes[letter] for letter in row.shape)


def _misfit(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> str:
    """The shape that is wanted, in words, "" where `shape` is it."""
    if len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True)):
        return ""
    return "(" + ", ".join("any" if size is None else str(size) for size in wanted) + ")"


# ---- from others to us


def to_ours(
    kind: Kind, tensors: Mapping[str, np.ndarray], config: AlbertConfig, source: str = "the source"
) -> dict[str, np.ndarray]:
    """Our arrays, path -> contiguous float32, from the tensors of a TF checkpoint or a Hugging Face directory.

    `tensors` may read each tensor when it is asked for: each is asked for once, so no two copies of a large one exist
    for longer than its transposition. The encoder must be there; pooler and heads come as a whole or not at all.
    `source` names the tensors' origin in errors.

    Raises AlbertError for a tensor without a place, two tensors for one place, a place without a tensor, shapes that do
    not fit, a tensor that is no float or not finite, and for what this model cannot hold: an untied decoder, or a
    projection that is not the identity where E equals D.
    """
    rows = table(config)
    by_name = {row.name(kind): row for row in rows if row.name(kind)}
    found: dict[str, str] = {}  # our path -> source name
    extra: dict[str, str] = {}  # known name -> source name, of what has no place of its own
    unknown = []
    for given in tensors:
        name = _plain(kind, given)
        if name is None:
            continue
        if name in by_name:
            path = by_name[name].ours
            if path in found:
                raise AlbertError(f"{source}: {found[path]} and {given} are both {path}; keep one of them")
            found[path] = given
        elif kind == "hf" and (name in _HF_TIED or name in _HF_PROJECTION):
            if name in extra:
                raise AlbertError(f"{source}: {extra[name]} and {given} are both {name}; keep one of them")
            extra[name] = given
        else:
            unknown.append(given)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise AlbertError(
            f"{source}: no place in this model for {', '.join(sorted(unknown)[:3])}{more}; its configuration says "
            f"groups {config.groups}, inner groups {config.inner_groups}, E {config.embedding_size}, "
            f"D {config.hidden_size}: is it this model's?"
        )
    present = {row.part for row in rows if row.ours in found} | {"albert"}
    for row in rows:
        if row.part in present and row.ours not in found:
            raise AlbertError(f"{source}: nothing fills {row.ours}; it should hold a tensor {row.name(kind)}")
    if kind == "hf":
        _check_neutral({name: given for name, given in extra.items() if name not in _HF_TIED}, tensors, source)
    ours = {}
    for row in rows:
        if row.ours in found:
            what = f"{source}: {found[row.ours]}"
            ours[row.ours] = _fit(tensors[found[row.ours]], row, kind, config, what)
            _check_finite(ours[row.ours], what)
            for name in (name for name, first in _HF_TIED.items() if first == row.hf and name in extra):
                if not np.array_equal(np.asarray(tensors[extra.pop(name)], np.float32), ours[row.ours]):
                    raise AlbertError(
                        f"{source}: {name} differs from {row.hf}; ALBERT ties them, and a model with an output table "
                        "of its own cannot be held"
                    )
    for given in (given for name, given in extra.items() if name in _HF_TIED):
        raise AlbertError(f"{source}: {given} is there but not the rest of its head; it should hold predictions.bias")
    return ours


def is_training_state(name: str) -> bool:
    """Whether a TF variable is no part of the model but of its training."""
    return bool(_TF_SKIPPED.search(name))


def _plain(kind: Kind, given: str) -> str | None:
    """A source's name as the table has it; None for what is no parameter."""
    if kind == "tf":
        name = given.removeprefix("module/")  # TF-Hub modules
        return None if is_training_state(name) else name
    if _HF_BUFFERS.match(given):
        return None
    return "albert." + given if given.startswith(("embeddings.", "encoder.", "pooler.")) else given


def _fit(tensor: np.ndarray, row: Row, kind: Kind, config: AlbertConfig, what: str) -> np.ndarray:
    wanted = our_shape(row, config)
    if row.transposed(kind):
        wanted = wanted[::-1]
    if needed := _misfit(tensor.shape, wanted):
        raise AlbertError(
            f"{what} has shape {tuple(tensor.shape)}, {row.ours} needs {needed} by the configuration; "
            "configuration and weights are not of one model"
        )
    if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
        raise AlbertError(f"{what} is {tensor.dtype}; {row.ours} needs floating-point numbers")
    if row.transposed(kind):
        tensor = tensor.T
    if tensor.dtype == np.float32 and tensor.flags.c_contiguous and tensor.ctypes.data % 64 == 0:
        return tensor
    ours = aligned(tensor.shape)
    with np.errstate(over="ignore"):  # float64 beyond float32, which is told below
        ours[...] = tensor
    return ours


def _check_finite(array: np.ndarray, what: str) -> None:
    if array.size and not np.isfinite([array.min(), array.max()]).all():  # NaN goes through both; no copy of the array
        raise AlbertError(
            f"{what} holds {np.count_nonzero(~np.isfinite(array)):,} numbers that are NaN or infinite in float32; "
            "take a checkpoint from before the training diverged, or copy it again"
        )


def check_ours(params: Mapping[str, np.ndarray], config: AlbertConfig, source: str) -> None:
    """Raises AlbertError unless `params` (path -> array) are the float32 arrays of a model of this shape, all finite:
    the whole encoder, pooler and heads as a whole or not at all, nothing else."""
    rows = {row.ours: row for row in table(config)}
    there = parts(params)
    for path in [*params, *(row.ours for row in rows.values() if row.part in there | {"albert"})]:
        if path not in rows:
            raise AlbertError(f"{source}: no place in this model for {path}; convert again, or restore it from a copy")
        if path not in params:
            raise AlbertError(f"{source}: {path} is missing; convert again, or restore it from a copy")
        if needed := _misfit(params[path].shape, our_shape(rows[path], config)):
            raise AlbertError(
                f"{source}: {path} has shape {params[path].shape}, the configuration says {needed}; configuration and "
                "weights are not of one model"
            )
        if params[path].dtype != np.float32:
            raise AlbertError(f"{source}: {path} is {params[path].dtype}, not float32; convert again")
        _check_finite(params[path], f"{source}: {path}")


def _check_neutral(extra: Mapping[str, str], tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Hugging Face's projection is the identity where our tree has none."""
    for given in extra.values():
        tensor = tensors[given]
        neutral = np.eye(*tensor.shape) if tensor.ndim == 2 else np.zeros(tensor.shape)
        if not np.array_equal(tensor, neutral):
            raise AlbertError(
                f"{source}: {given} is not the identity, but the embedding is as wide as the encoder "
                f"({tensor.shape[0]}), where ALBERT has no projection; such a model cannot be held"
            )


# ---- from us to others


def from_ours(kind: Kind, params: Mapping[str, np.ndarray], config: AlbertConfig) -> dict[str, np.ndarray]:
    """Name -> contiguous array as a TF checkpoint or a Hugging Face directory has it, in the table's order.

    `params` is path -> array. Without heads the Hugging Face names are those of a bare AlbertModel. Hugging Face always
    has a projection: where E equals D it is written as the identity.

    Raises AlbertError for a path without a name, a missing path, and a shape that does not fit.
    """
    rows = table(config)
    known = {row.ours: row for row in rows if row.name(kind)}
    for path in params:
        if path not in known:
            raise AlbertError(f"{path} has no name in a {_FORMATS[kind]}; it is not part of this model")
    present = {row.part for row in rows if row.ours in params} | {"albert"}
    bare = present <= {"albert", "albert/pooler"}
    tensors: dict[str, np.ndarray] = {}
    for row in rows:
        if row.part not in present:
            continue
        if row.ours not in params:
            raise AlbertError(f"{row.ours} is missing; a {_FORMATS[kind]} needs it as {row.name(kind)}")
        array = np.asarray(params[row.ours])
        if needed := _misfit(array.shape, our_shape(row, config)):
            raise AlbertError(f"{row.ours} has shape {array.shape}, the configuration says {needed}")
        tensors[_written(kind, row, bare)] = np.ascontiguousarray(array.T if row.transposed(kind) else array)
    if kind == "hf" and config.embedding_size == config.hidden_size:
        for row in _PROJECTION:
            D = config.hidden_size
            neutral = np.eye(D, dtype=np.float32) if len(row.shape) == 2 else np.zeros(D, np.float32)
            tensors[_written(kind, row, bare)] = neutral
    return tensors


_FORMATS = {"tf": "TF 1 checkpoint", "hf": "Hugging Face directory"}


def _written(kind: Kind, row: Row, bare: bool) -> str:
    name = row.name(kind)
    assert name is not None
    return name.removeprefix("albert.") if kind == "hf" and bare else name


def parts(paths: Mapping[str, object]) -> set[str]:
    """Which of "albert", "albert/pooler", "mlm", "order", "classifier", "span" the paths of a flat tree belong to."""
    return {"albert/pooler" if path.startswith("albert/pooler/") else path.split("/")[0] for path in paths}
