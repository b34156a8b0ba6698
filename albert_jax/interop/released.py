"""Configurations as Google and Hugging Face write them, and a table of the released ones that no wrong file can beat.

A head count, an activation or a dropout rate leaves no trace in the weights: a checkpoint loads under a wrong one
without an error and gives other numbers. Files of released checkpoints are wrong in all three (google-research/albert
issues 23, 153, 154, 180; huggingface/transformers issues 2337, 2395, 3164), so a source known by its name takes these
three from the table, with a warning for each field that its file has otherwise.
"""

import dataclasses
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from albert_jax.errors import AlbertError, refuse
from albert_jax.model.config import AlbertConfig, albert

Json = dict[str, Any]

_SIZES = ("base", "large", "xlarge", "xxlarge")
# The Chinese models: ReLU (issue 154), no dropout, WordPiece; xxlarge has 16 heads, the English one 64 (issue 153).
_CHINESE: dict[str, dict[str, Any]] = {
    "base": dict(heads=12), "large": dict(heads=16), "xlarge": dict(heads=16, initializer_range=0.014),
    "xxlarge": dict(heads=16, initializer_range=0.01),
}  # fmt: skip
# English xlarge: the page of the module says 16 heads, the file in its tar 32 (issue 180); the thread leaves it open
# and Hugging Face ships 16. The verb heads lets the weights and a text decide.
RELEASED: dict[str, AlbertConfig] = {
    **{f"albert_{size}_v{version}": albert(size, version) for size in _SIZES for version in (1, 2)},
    **{f"albert_{size}_zh": albert(size, vocab_size=21_128, activation="relu", **_CHINESE[size]) for size in _SIZES},
}

# Our field, and what both Google's file and Hugging Face's call it.
_FIELDS = {
    "vocab_size": "vocab_size", "embedding_size": "embedding_size", "hidden_size": "hidden_size",
    "layers": "num_hidden_layers", "heads": "num_attention_heads", "feed_forward_size": "intermediate_size",
    "groups": "num_hidden_groups", "inner_groups": "inner_group_num", "max_positions": "max_position_embeddings",
    "segment_types": "type_vocab_size", "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob", "initializer_range": "initializer_range",
}  # fmt: skip
_HF_FIELDS = _FIELDS | {"layer_norm_eps": "layer_norm_eps", "classifier_dropout": "classifier_dropout_prob"}
# What both originals take for a field that the file lacks: the defaults of their `AlbertConfig` classes are xxlarge.
_DEFAULTS = dict(hidden_size=4096, heads=64, feed_forward_size=16_384)
_LARGEST = 2**31  # no size of a model comes near; a damaged file's may be anything

Activation = Literal["gelu_tanh", "gelu_erf", "relu"]
# One word, two functions: "gelu" is the tanh approximation in Google's code and the exact one in Hugging Face's.
_GOOGLE_ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu_tanh", "relu": "relu"}
_HF_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu": "gelu_erf", "gelu_python": "gelu_erf", "relu": "relu",
}  # fmt: skip

# A field of a file is one of five: read into our configuration, neutral at one value, a mark of another model, known
# to change nothing, or unknown. Only what is known to change the numbers is refused. An unknown field is warned of: the
# next release of a library that writes these files adds some, and most are bookkeeping.
#
# Neutral: computed here at this value only, which is that of every released model.
_NEUTRAL: Json = {"net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "down_scale_factor": 1}
_GOOGLE_NEUTRAL: Json = _NEUTRAL | {
    "ln_type": "postln", "directionality": "bidi", "pooler_type": "first_token_transform",
}  # fmt: skip
_HF_NEUTRAL: Json = _NEUTRAL | {
    "model_type": "albert", "ln_type": "postln", "position_embedding_type": "absolute", "pad_token_id": 0,
    "is_decoder": False, "is_encoder_decoder": False, "add_cross_attention": False, "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False, "tie_word_embeddings": True, "pruned_heads": {}, "layers_to_keep": [],
    "quantization_config": None,
}  # fmt: skip
# What makes a transformer another one than ALBERT: other positions, other attention, other normalisation, experts.
_OTHER_MODELS = {
    "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "rotary_dim", "rotary_pct",
    "rotary_emb_base", "global_rope_theta", "local_rope_theta", "relative_attention", "max_relative_positions",
    "relative_attention_num_buckets", "alibi", "use_alibi", "num_key_value_heads", "sliding_window", "attention_window",
    "local_attention", "global_attn_every_n_layers", "norm_first", "normalize_before", "pre_norm", "rms_norm_eps",
    "use_rms_norm", "qk_norm", "num_experts", "num_local_experts",
}  # fmt: skip
# Known to change nothing: bookkeeping, generation, and labels, which the reader of the head reads.
_GOOGLE_UNREAD = {
    "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "use_einsum",
}  # fmt: skip
_HF_UNREAD = {
    "_name_or_path", "_commit_hash", "_num_labels", "_attn_implementation_autoset", "architectures", "auto_map",
    "transformers_version", "dtype", "torch_dtype", "torchscript", "use_bfloat16", "return_dict", "use_return_dict",
    "output_attentions", "output_hidden_states", "use_cache", "chunk_size_feed_forward", "tokenizer_class",
    "task_specific_params", "finetuning_task", "problem_type", "id2label", "label2id", "num_labels", "bos_token_id",
    "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "decoder_start_token_id", "prefix",
    "tf_legacy_loss", "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "gradient_checkpointing",
    "language", "name",
}  # fmt: skip


def config_from_google(fields: Any, name: str = "", source: str = "albert_config.json") -> AlbertConfig:
    """The configuration that Google's `albert_config.json` describes; "gelu" is the tanh approximation, and a field
    that the file lacks is what `modeling.AlbertConfig` takes for it. `name` is the path or address that the checkpoint
    came from: that of a released model (".../albert_xlarge_v2/...") makes the table override heads, activation and
    dropout, each with a warning. `source` names the file in messages.

    Warns of unknown fields. Raises AlbertError for a field of the wrong type, and for one that asks for what this model
    does not compute.
    """
    refuse(f"{source}: {flaw}" for flaw in _google_flaws(fields))
    _warn_of_unknown(fields, {*_FIELDS.values(), *_GOOGLE_NEUTRAL, *_GOOGLE_UNREAD}, source)
    return _by_table(fields, _FIELDS, _GOOGLE_ACTIVATIONS[fields.get("hidden_act", "gelu")], name, source)


def config_from_hf(fields: Any, name: str = "", source: str = "config.json") -> AlbertConfig:
    """The configuration that Hugging Face's `config.json` describes; "gelu" is erf and "gelu_new" tanh. Arguments,
    warnings and errors as of `config_from_google`."""
    refuse(f"{source}: {flaw}" for flaw in _hf_flaws(fields))
    _warn_of_unknown(fields, {*_HF_FIELDS.values(), *_HF_NEUTRAL, *_HF_UNREAD}, source)
    return _by_table(fields, _HF_FIELDS, _HF_ACTIVATIONS[fields.get("hidden_act", "gelu_new")], name, source)


def _google_flaws(fields: Any) -> Iterator[str]:
    if not isinstance(fields, dict):
        yield f"a {type(fields).__name__} instead of fields and values; copy it again"
    yield from _field_flaws(fields, _FIELDS, _GOOGLE_NEUTRAL, _GOOGLE_ACTIVATIONS)
    if fields.get("vocab_size") is None:
        yield "vocab_size is missing; the original requires it, so add it"


def _hf_flaws(fields: Any) -> Iterator[str]:
    if not isinstance(fields, dict):
        yield "not a JSON object; copy it again"
    if fields.get("model_type", "albert") != "albert":
        yield f"model_type is {fields['model_type']!r}, not 'albert'; give an ALBERT directory"
    if not set(fields) & set(_FIELDS.values()):
        yield "none of the fields of an ALBERT configuration is here; give the model's own file"
    yield from _field_flaws(fields, _HF_FIELDS, _HF_NEUTRAL, _HF_ACTIVATIONS)


def _field_flaws(fields: Json, read: Mapping[str, str], neutral: Json, activations: Mapping) -> Iterator[str]:
    for field, value in fields.items():
        if field in _OTHER_MODELS and value not in (None, False):
            yield f"{field!r} is no field of an ALBERT and changes a model's numbers; give an ALBERT, or remove it"
        if field in neutral and value != neutral[field]:
            yield f"{field} is {value!r}; only {neutral[field]!r}, as in released models, can be computed"
    for ours, theirs in read.items():
        value, wanted = fields.get(theirs, 0), type(getattr(AlbertConfig, ours))
        # A bool is an int to Python, NaN and infinity are floats, and 10**400 fits no float.
        if type(value) not in (int, float) or not abs(value) < _LARGEST or value != wanted(value):
            yield f"{theirs} is {value!r:.40}; give {'a whole' if wanted is int else 'a'} number"
    activation = fields.get("hidden_act", "relu")
    if not isinstance(activation, str) or activation not in activations:
        yield f"hidden_act is {activation!r}; the activations known here are {', '.join(activations)}"


def _warn_of_unknown(fields: Json, known: set[str], source: str) -> None:
    if unknown := sorted(fields.keys() - known - _OTHER_MODELS - {"hidden_act"}):
        doubt = "should one of them change the model, its numbers differ here"
        warnings.warn(f"{source}: unknown and ignored: {', '.join(map(repr, unknown))}; {doubt}", stacklevel=3)


def _by_table(fields: Json, names: Mapping[str, str], activation: str, name: str, source: str) -> AlbertConfig:
    """The configuration of `fields`, overridden where they contradict the table's rows for `name`."""
    values: dict[str, Any] = dataclasses.asdict(AlbertConfig()) | _DEFAULTS | {"activation": activation}
    values |= {ours: type(values[ours])(fields.get(theirs, values[ours])) for ours, theirs in names.items()}
    shape = ("vocab_size", "embedding_size", "hidden_size", "layers", "feed_forward_size", "groups", "inner_groups")
    twins = [row for row, config in RELEASED.items() if all(getattr(config, f) == values[f] for f in shape)]
    # A name alone is not enough: a directory called albert_base_v2 may hold somebody's model of another shape.
    rows = [row for row in released(name) if row in twins]
    for field in ("heads", "activation", "hidden_dropout", "attention_dropout"):
        value, published = values[field], {getattr(RELEASED[row], field) for row in rows or twins}
        if value in published or len(published) != 1:  # versions 1 and 2 may differ in dropout
            continue
        right = published.pop()
        found = f"{source}: {_FIELDS.get(field, 'hidden_act')} is {value} but {' and '.join(rows or twins)}"
        if rows:
            disputed = field == "heads" and values["hidden_size"] == 2048
            doubt = " (sources disagree: check_heads scores candidates)" if disputed else ""
            warnings.warn(f"{found} was released with {right}; using {right}{doubt}", stacklevel=3)
            values[field] = right
        # The name says nothing but the shape is a released one: it may be somebody's own model, so its values are kept.
        # Dropout is the business of whoever trained it.
        elif field in ("heads", "activation"):
            advice = "if this is one of them, load it from a path that carries its name"
            warnings.warn(f"{found}, of the same shape, have {right}; keeping {value}; {advice}", stacklevel=3)
    try:
        return AlbertConfig(**values)
    except AlbertError as error:  # its sentence names the field, not the file
        raise AlbertError(f"{source}: {error}") from error


def to_google(config: AlbertConfig) -> dict[str, Any]:
    """The fields of an `albert_config.json` for `config`, without the dropout before a fine-tuning head, for which the
    original has 0.1 in its code. Raises AlbertError for what the original's code cannot compute."""
    if config.activation == "gelu_erf" or config.layer_norm_eps != 1e-12:
        raise AlbertError(
            f"model.activation is {config.activation} and model.layer_norm_eps is {config.layer_norm_eps}, and the "
            "original has only the tanh approximation of gelu, and 1e-12 in its code; write Hugging Face's format"
        )
    fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    names = {ours: theirs for theirs, ours in _GOOGLE_ACTIVATIONS.items()}
    return dict(sorted({**fields, **_NEUTRAL, "hidden_act": names[config.activation]}.items()))


def to_hf(config: AlbertConfig) -> dict[str, Any]:
    """The fields of a `config.json` for `config`, without `architectures` and labels, which belong to the head."""
    names: dict[str, str] = {"gelu_tanh": "gelu_new", "gelu_erf": "gelu", "relu": "relu"}
    fields = {theirs: getattr(config, ours) for ours, theirs in _HF_FIELDS.items()}
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    fixed = {"model_type": "albert", "position_embedding_type": "absolute", "tie_word_embeddings": True}
    return dict(sorted({**fields, **_NEUTRAL, **special, **fixed, "hidden_act": names[config.activation]}.items()))


def released(name: str) -> tuple[str, ...]:
    """Rows of RELEASED that a path, archive, hub name or module address can mean; () for any other name.

    ".../albert_base_v2.tar.gz", "albert/albert-base-v2" and "models--albert--albert-base-v2" mean ("albert_base_v2",);
    "albert_xlarge" could be of either version; "tfhub.dev/google/albert_base/3" is v2. Names that only begin like these
    (fine-tuned descendants) mean nothing.
    """
    found: tuple[str, ...] = ()
    # TF-Hub's addresses have size and version apart: .../albert_base/3. Modules 2 and 3 both hold the second version.
    address = re.sub(r"(albert_(?:base|large|xlarge|xxlarge))[/_]1(?=/|$)", r"\1_v1", name)
    address = re.sub(r"(albert_(?:base|large|xlarge|xxlarge))[/_][23](?=/|$)", r"\1_v2", address)
    for part in re.split(r"/|--|\\", address):
        word = re.sub(r"\.(tar|tar\.gz|tgz)$", "", part.lower()).replace("-", "_")
        match = re.fullmatch(r"albert_(chinese_)?(base|large|xlarge|xxlarge)(_v1|_v2|_zh)?", word)
        if match is None or (match[1] and match[3]):
            continue
        ending = "_zh" if match[1] else match[3]
        rows = tuple(f"albert_{match[2]}{e}" for e in ([ending] if ending else ("_v1", "_v2")))
        if len(rows) == 1 or not found:
            found = rows
    return found
