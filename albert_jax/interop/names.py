"""The one table of names: what each of our arrays is called in a Google checkpoint and in a Hugging Face directory, and
whether it is transposed in them. Both directions of every conversion read it.

A conversion is total: each source tensor is used once and each of our arrays is filled once, or an AlbertError names
both sides. Names: google-research/albert `modeling.py`, `run_pretraining.py`, `classifier_utils.py`, `squad_utils.py`;
huggingface/transformers `modeling_albert.py`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from albert_jax.errors import AlbertError, refuse
from albert_jax.interop.safetensors import aligned
from albert_jax.model.config import AlbertConfig

Kind = Literal["tf", "hf"]


@dataclass(frozen=True)
class Row:
    ours: str  # path in our parameter tree
    tf: str  # variable in a TF 1 checkpoint
    hf: str  # name in a Hugging Face state dict, under its longest form ("albert.embeddings...")
    shape: str  # ours, in dimension letters; C (classes) is whatever the source has
    tf_transposed: bool = False  # the source holds the transpose
    hf_transposed: bool = False

    @property
    def part(self) -> str:
        """What is present as a whole or not at all: the encoder (always present), the pooler, or a head."""
        return _part(self.ours)

    def name(self, kind: Kind) -> str:
        return self.tf if kind == "tf" else self.hf

    def transposed(self, kind: Kind) -> bool:
        return self.tf_transposed if kind == "tf" else self.hf_transposed


def _part(path: str) -> str:
    # Of the encoder only the pooler may be absent: taggers and the MLM alone do without.
    return "albert/pooler" if path.startswith("albert/pooler/") else path.split("/")[0]


def parts(paths: Mapping[str, object]) -> set[str]:
    """Which of "albert", "albert/pooler", "mlm", "order", "classifier", "span" the paths of a flat tree belong to."""
    return {_part(path) for path in paths}


def _dense(ours: str, tf: str, hf: str, shape: str) -> list[Row]:
    # Google's kernels are [in, out] as ours, those of torch.nn.Linear [out, in].
    return [
        Row(f"{ours}/kernel", f"{tf}/kernel", f"{hf}.weight", shape, hf_transposed=True),
        Row(f"{ours}/bias", f"{tf}/bias", f"{hf}.bias", shape[1]),
    ]


def _output(ours: str, tf: str, hf: str, shape: str) -> list[Row]:
    # Google's heads multiply by a variable output_weights [out, in] with transpose_b=True.
    return [
        Row(f"{ours}/kernel", f"{tf}weights", f"{hf}.weight", shape, tf_transposed=True, hf_transposed=True),
        Row(f"{ours}/bias", f"{tf}bias", f"{hf}.bias", shape[1]),
    ]


def _norm(ours: str, tf: str, hf: str, shape: str) -> list[Row]:
    return [
        Row(f"{ours}/scale", f"{tf}/gamma", f"{hf}.weight", shape),
        Row(f"{ours}/bias", f"{tf}/beta", f"{hf}.bias", shape),
    ]


# In paths: {g} group, {i} block in the group. In shapes: X segment types, 2 a number rather than a letter.
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


# Cached, since a conversion asks several times; a configuration is a value and the rows do not change.
@cache
def table(config: AlbertConfig) -> tuple[Row, ...]:
    """The rows of a model of this shape, in the order of our tree; without the projection when E equals D."""
    rows = list(_EMBEDDINGS)
    if config.embedding_size != config.hidden_size:
        rows += _PROJECTION
    for group in range(config.groups):
        for inner in range(config.inner_groups):
            for row in _BLOCK:
                ours, tf, hf = (text.format(g=group, i=inner) for text in (row.ours, row.tf, row.hf))
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
    """The shape that is wanted as a message writes it, "" where `shape` is it."""
    if len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True)):
        return ""
    return "(" + ", ".join("any" if size is None else str(size) for size in wanted) + ")"


def _not_finite(array: np.ndarray) -> Iterator[str]:
    # A NaN or an infinity shows in the minimum or the maximum, which need no second array as np.isfinite(array) does.
    if array.size and not np.isfinite([array.min(), array.max()]).all():
        count = np.count_nonzero(~np.isfinite(array))
        advice = "take a checkpoint from before the training diverged, or copy it again"
        yield f"holds {count:,} numbers that are NaN or infinite in float32; {advice}"


def our_flaws(params: Mapping[str, np.ndarray], config: AlbertConfig, others: bool = False) -> Iterator[str]:
    """What keeps `params` (path -> array) from being the float32 arrays of a model of this shape, all finite: the whole
    encoder, pooler and heads as a whole or not at all, and nothing else but, with `others`, parts of no row."""
    rows = {row.ours: row for row in table(config)}
    known, present = {row.part for row in rows.values()}, parts(params) | {"albert"}
    for path in [*params, *(path for path, row in rows.items() if row.part in present)]:
        if others and _part(path) not in known:
            continue
        if path not in rows:
            yield f"no place in this model for {path}; convert again, or restore it from a copy"
        if path not in params:
            yield f"{path} is missing; convert again, or restore it from a copy"
        array = params[path]
        if needed := _misfit(array.shape, our_shape(rows[path], config)):
            fact = f"{path} has shape {array.shape}, the configuration says {needed}"
            yield f"{fact}; configuration and weights are not of one model"
        if array.dtype != np.float32:
            yield f"{path} is {array.dtype}, not float32; convert again"
        yield from (f"{path} {flaw}" for flaw in _not_finite(array))


# The moments of the original's optimizers, which TF keeps beside each variable, and the step.
_TF_SKIPPED = re.compile(r"(^|/)(adam_m|adam_v|lamb_m|lamb_v|global_step)$")
# Buffers that older transformers stored: row numbers and zeros, no parameters.
_HF_BUFFERS = re.compile(r"^(albert\.)?embeddings\.(position_ids|token_type_ids)$")
# Hugging Face's second name of a tied tensor, and the first.
_HF_TIED = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}


def to_ours(
    kind: Kind, tensors: Mapping[str, np.ndarray], config: AlbertConfig, source: str = "the source"
) -> dict[str, np.ndarray]:
    """Our arrays, path -> contiguous float32, from the tensors of a TF checkpoint or a Hugging Face directory.

    `tensors` may read each tensor when it is asked for: each is asked for once, what is no parameter never. The encoder
    must be complete; pooler and heads come as a whole or not at all. `source` names the tensors' origin in errors.

    Raises AlbertError, naming both sides, for tensors and rows that are not one to one, for a tensor that has another
    shape, is no float or not finite, and for what this model cannot hold (see `_unheld`).
    """
    given: dict[str, list[str]] = defaultdict(list)  # name in the table -> names in the source
    for name in tensors:
        if (plain := _plain(kind, name)) is not None:
            given[plain].append(name)
    refuse(f"{source}: {flaw}" for flaw in _mismatches(kind, given, config))
    ours, rows = {}, table(config)
    for row in dict.fromkeys((*rows, *_PROJECTION)):  # the projection where E equals D too, as Hugging Face has it
        if row.name(kind) in given:
            (name,) = given[row.name(kind)]
            array = _converted(tensors, name, row, kind, config, source)
            # At once rather than at the end: the word table's twin is large, and so far little else is in memory.
            refuse(f"{source}: {flaw}" for flaw in _unheld(row, array, given, tensors, config))
            if row in rows:
                ours[row.ours] = array
    return ours


def _plain(kind: Kind, name: str) -> str | None:
    """A source's name as the table has it; None for what is no parameter."""
    if kind == "tf":
        return None if _TF_SKIPPED.search(name) else name.removeprefix("module/")  # the prefix of TF-Hub modules
    bare = name.startswith(("embeddings.", "encoder.", "pooler."))  # as in the state dict of an AlbertModel
    return None if _HF_BUFFERS.match(name) else "albert." + name if bare else name


def _mismatches(kind: Kind, given: Mapping[str, list[str]], config: AlbertConfig) -> Iterator[str]:
    rows = {row.name(kind): row for row in table(config)}
    known = rows.keys() | ({*_HF_TIED, *(row.hf for row in _PROJECTION)} if kind == "hf" else set())
    for name, (first, *more) in given.items():
        if more and name in known:
            yield f"{first} and {more[0]} are both {rows[name].ours if name in rows else name}; keep one of them"
    if unknown := sorted(name for plain, names in given.items() if plain not in known for name in names):
        names = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        shape = f"groups {config.groups} of {config.inner_groups}, E {config.embedding_size}, D {config.hidden_size}"
        yield f"no place in this model for {names}; its configuration says {shape}: is it this model's?"
    # A part of which one tensor is given must be given whole: half a head computes nonsense without an error.
    present = {rows[name].part for name in given.keys() & rows.keys()} | {"albert"}
    for name, row in rows.items():
        if row.part in present and name not in given:
            yield f"nothing fills {row.ours}; it should hold a tensor {name}"
    for second, first in _HF_TIED.items():
        if second in given and first not in given:
            yield f"{given[second][0]} is there but not the rest of its head; it should hold {first}"


def _converted(
    tensors: Mapping[str, np.ndarray], name: str, row: Row, kind: Kind, config: AlbertConfig, source: str
) -> np.ndarray:
    """The tensor `name` as our float32 array of `row`."""
    # A function of its own, which frees the tensor at its end: no second copy of a large one outlasts its conversion.
    tensor = tensors[name]
    wanted = our_shape(row, config)
    if needed := _misfit(tensor.shape, wanted[::-1] if row.transposed(kind) else wanted):
        fact = f"{name} has shape {tuple(tensor.shape)}, {row.ours} needs {needed} by the configuration"
        raise AlbertError(f"{source}: {fact}; configuration and weights are not of one model")
    if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
        raise AlbertError(f"{source}: {name} is {tensor.dtype}; {row.ours} needs floating-point numbers")
    array = tensor = tensor.T if row.transposed(kind) else tensor
    if not (tensor.dtype == np.float32 and tensor.flags.c_contiguous and tensor.ctypes.data % 64 == 0):
        array = aligned(tensor.shape)
        with np.errstate(over="ignore"):  # of float64 beyond float32, which becomes infinite and is refused below
            array[...] = tensor
    refuse(f"{source}: {name} {flaw}" for flaw in _not_finite(array))
    return array


def _unheld(row: Row, array: np.ndarray, given: Mapping, tensors: Mapping, config: AlbertConfig) -> Iterator[str]:
    """What an ALBERT in our tree cannot hold: a projection where E equals D, an output table of its own."""
    E, D = config.embedding_size, config.hidden_size
    if E == D and row in _PROJECTION and not np.array_equal(array, np.eye(D) if array.ndim == 2 else np.zeros(D)):
        fact = f"{given[row.hf][0]} is not the identity, but the embedding is as wide as the encoder ({D})"
        yield f"{fact}, where ALBERT has no projection; such a model cannot be held"
    for second, first in _HF_TIED.items():
        if first == row.hf and second in given:
            twin = np.asarray(tensors[given[second][0]], np.float32)
            if not np.array_equal(twin, array):
                yield f"{second} differs from {first}; ALBERT ties them, and an output table of its own cannot be held"


def from_ours(kind: Kind, params: Mapping[str, np.ndarray], config: AlbertConfig) -> dict[str, np.ndarray]:
    """Name -> contiguous array as a TF checkpoint or a Hugging Face directory has it, in the table's order.

    `params` is path -> array. Without heads the Hugging Face names are those of a bare AlbertModel. Hugging Face always
    has a projection: where E equals D it is written as the identity.

    Raises AlbertError for a path without a name, a missing path, and a shape that does not fit.
    """
    refuse(_unwritable(kind, params, config))
    tensors = {}
    for row in table(config):
        if row.ours in params:
            array = np.asarray(params[row.ours])
            tensors[row.name(kind)] = np.ascontiguousarray(array.T if row.transposed(kind) else array)
    if kind == "hf" and config.embedding_size == (D := config.hidden_size):
        kernel, bias = _PROJECTION
        tensors |= {kernel.hf: np.eye(D, dtype=np.float32), bias.hf: np.zeros(D, np.float32)}
    bare = kind == "hf" and parts(params) <= {"albert", "albert/pooler"}
    return {name.removeprefix("albert.") if bare else name: tensor for name, tensor in tensors.items()}


def _unwritable(kind: Kind, params: Mapping[str, np.ndarray], config: AlbertConfig) -> Iterator[str]:
    rows, present = table(config), parts(params) | {"albert"}
    what = {"tf": "TF 1 checkpoint", "hf": "Hugging Face directory"}[kind]
    for path in sorted(params.keys() - {row.ours for row in rows}):
        yield f"{path} has no name in a {what}; it is not part of this model"
    for row in rows:
        if row.part in present and row.ours not in params:
            yield f"{row.ours} is missing; a {what} needs it as {row.name(kind)}"
        if row.ours in params and (needed := _misfit(np.shape(params[row.ours]), our_shape(row, config))):
            yield f"{row.ours} has shape {np.shape(params[row.ours])}, the configuration says {needed}"
