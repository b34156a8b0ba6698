"""Configurations of others: read, written, refused; and the table of the released ones against their wrong files."""

import warnings

import pytest

from albert_jax.errors import AlbertError
from albert_jax.interop.released import (
    RELEASED,
    config_from_google,
    config_from_hf,
    released,
    to_google,
    to_hf,
)
from albert_jax.model.config import AlbertConfig


@pytest.mark.parametrize("row", sorted(RELEASED))
def test_the_table_through_both_formats(row):
    config = RELEASED[row]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config_from_google(to_google(config), row) == config
        assert config_from_hf(to_hf(config), row) == config


# Paper, table 1; Chinese: 21,128 pieces, ReLU and no dropout; xxlarge has 64 heads in English and 16 in Chinese.
@pytest.mark.parametrize(
    ("row", "shape", "activation", "dropout"),
    [
        ("albert_base_v1", (30_000, 768, 12, 12, 3072), "gelu_tanh", 0.1),
        ("albert_base_v2", (30_000, 768, 12, 12, 3072), "gelu_tanh", 0.0),
        ("albert_large_v1", (30_000, 1024, 24, 16, 4096), "gelu_tanh", 0.1),
        ("albert_xlarge_v1", (30_000, 2048, 24, 16, 8192), "gelu_tanh", 0.1),
        ("albert_xxlarge_v1", (30_000, 4096, 12, 64, 16_384), "gelu_tanh", 0.0),
        ("albert_xxlarge_v2", (30_000, 4096, 12, 64, 16_384), "gelu_tanh", 0.0),
        ("albert_base_zh", (21_128, 768, 12, 12, 3072), "relu", 0.0),
        ("albert_xlarge_zh", (21_128, 2048, 24, 16, 8192), "relu", 0.0),
        ("albert_xxlarge_zh", (21_128, 4096, 12, 16, 16_384), "relu", 0.0),
    ],
)
def test_rows(row, shape, activation, dropout):
    config = RELEASED[row]
    assert (config.vocab_size, config.hidden_size, config.layers, config.heads, config.feed_forward_size) == shape
    assert config.activation == activation
    assert config.hidden_dropout == config.attention_dropout == dropout


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("/data/albert_base_v2.tar.gz", ["albert_base_v2"]),
        ("/data/albert_base_v2/albert_base/model.ckpt-best", ["albert_base_v2"]),
        ("/data/albert_xlarge_zh.tgz", ["albert_xlarge_zh"]),
        ("albert/albert-xxlarge-v1", ["albert_xxlarge_v1"]),
        ("/hub/models--albert--albert-base-v2/snapshots/1a2b", ["albert_base_v2"]),
        ("voidful/albert_chinese_base", ["albert_base_zh"]),
        ("albert_large", ["albert_large_v1", "albert_large_v2"]),
        ("https://tfhub.dev/google/albert_base/1", ["albert_base_v1"]),
        ("https://tfhub.dev/google/albert_base/3", ["albert_base_v2"]),
        ("somebody/albert-base-v2-imdb", []),
        ("runs/base", []),
        ("my_albert_base_v2", []),
    ],
)
def test_names(name, rows):
    assert list(released(name)) == rows


def google(row="albert_xlarge_v2", **changes):
    return to_google(RELEASED[row]) | changes


def hf(row="albert_base_v1", **changes):
    return to_hf(RELEASED[row]) | changes


@pytest.mark.parametrize(
    ("fields", "read", "name", "field", "value", "said"),
    [
        (google(num_attention_heads=32), config_from_google, "albert_xlarge_v2.tar.gz", "heads", 16,
         "num_attention_heads is 32 but albert_xlarge_v2 was released with 16; using 16 .sources disagree"),
        (google(num_attention_heads=32), config_from_google, "albert_xlarge", "heads", 16, "v1 and albert_xlarge_v2"),
        (google("albert_xxlarge_zh", num_attention_heads=64), config_from_google, "albert_xxlarge_zh", "heads", 16,
         "num_attention_heads is 64"),
        (google("albert_base_zh", hidden_act="gelu"), config_from_google, "albert_base_zh", "activation", "relu",
         "hidden_act is gelu_tanh but albert_base_zh was released with relu"),
        (hf(hidden_act="gelu"), config_from_hf, "albert-base-v1", "activation", "gelu_tanh", "hidden_act is gelu_erf"),
        (hf("albert_base_v2", hidden_dropout_prob=0.1), config_from_hf, "albert/albert-base-v2", "hidden_dropout", 0.0,
         "hidden_dropout_prob is 0.1"),
        (hf(attention_probs_dropout_prob=0), config_from_hf, "albert-base-v1", "attention_dropout", 0.1,
         "attention_probs_dropout_prob is 0.0"),
    ],
)  # fmt: skip
def test_the_table_beats_a_contradicting_file(fields, read, name, field, value, said):
    with pytest.warns(UserWarning, match=said):
        config = read(fields, name, "some/file.json")
    assert getattr(config, field) == value


def test_a_file_of_unknown_origin_is_believed_and_warned_of():
    """It may be somebody's own model, and a conversion to and fro must not change it."""
    with pytest.warns(UserWarning, match="num_attention_heads is 32 .* have 16; keeping 32"):
        assert config_from_google(google(num_attention_heads=32)).heads == 32
    with pytest.warns(UserWarning, match="hidden_act is gelu_erf .* keeping gelu_erf"):
        assert config_from_hf(hf(hidden_act="gelu")).activation == "gelu_erf"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = google(num_hidden_layers=6, num_attention_heads=64)
        assert config_from_google(own, "albert_xlarge_v2").heads == 64  # not the shape of the row
        assert config_from_hf(hf(hidden_dropout_prob=0.05), "runs/mine").hidden_dropout == 0.05


def test_one_word_means_two_activations():
    fields = {"vocab_size": 100, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 8}
    assert config_from_google(fields | {"hidden_act": "gelu"}).activation == "gelu_tanh"
    assert config_from_hf(fields | {"hidden_act": "gelu"}).activation == "gelu_erf"
    assert config_from_hf(fields | {"hidden_act": "gelu_new"}).activation == "gelu_tanh"
    assert config_from_hf(fields).activation == "gelu_tanh"


def test_fields_left_out_are_what_their_programs_take():
    assert config_from_google({"vocab_size": 30_000}) == RELEASED["albert_xxlarge_v2"]
    assert config_from_hf({"vocab_size": 30_000}) == RELEASED["albert_xxlarge_v2"]


def test_every_field_arrives():
    config = AlbertConfig(
        vocab_size=101, embedding_size=12, hidden_size=24, layers=5, heads=3, feed_forward_size=40, groups=2,
        inner_groups=2, max_positions=33, segment_types=3, activation="relu", hidden_dropout=0.2,
        attention_dropout=0.3, initializer_range=0.01,
    )  # fmt: skip
    assert config_from_google(to_google(config)) == config
    fields = to_hf(config) | {"layer_norm_eps": 1e-5, "classifier_dropout_prob": 0.4, "id2label": {"0": "a"}}
    found = config_from_hf(fields | {"architectures": ["AlbertModel"], "transformers_version": "4.57.6"})
    assert (found.layer_norm_eps, found.classifier_dropout) == (1e-5, 0.4)
    assert to_hf(found).items() <= fields.items()


@pytest.mark.parametrize(
    ("read", "fields", "said"),
    [
        (config_from_google, google(rope_theta=1.0), "f.json: 'rope_theta' is no field of an ALBERT"),
        (config_from_google, google(down_scale_factor=2), "down_scale_factor is 2; only 1"),
        (config_from_google, google(ln_type="preln"), "ln_type is 'preln'; only 'postln'"),
        (config_from_google, google(hidden_act="tanh"), "hidden_act is 'tanh'; the activations known here are gelu"),
        (config_from_google, google(hidden_act=None), "hidden_act is None"),
        (config_from_google, {"hidden_size": 16}, "vocab_size is missing"),
        (config_from_google, google(hidden_size="2048"), "hidden_size is '2048'; give a whole number"),
        (config_from_google, google(hidden_size=20.5), "hidden_size is 20.5; give a whole number"),
        (config_from_google, google(hidden_size=float("inf")), "hidden_size is inf"),
        (config_from_google, google(hidden_dropout_prob=float("nan")), "hidden_dropout_prob is nan"),
        (config_from_google, google(vocab_size=True), "vocab_size is True"),
        (config_from_google, google(hidden_dropout_prob="x"), "hidden_dropout_prob is 'x'; give a number"),
        (config_from_google, google(vocab_size=9, num_attention_heads=7), "not a multiple of model.heads"),
        (config_from_hf, hf(model_type="bert"), "model_type is 'bert', not 'albert'"),
        (config_from_hf, hf(position_embedding_type="relative_key"), "position_embedding_type is 'relative_key'"),
        (config_from_hf, hf(tie_word_embeddings=False), "tie_word_embeddings is False"),
        (config_from_hf, hf(is_decoder=True), "is_decoder is True"),
        (config_from_hf, hf(hidden_act="silu"), "hidden_act is 'silu'"),
        (config_from_hf, hf(rope_theta=1.0), "'rope_theta' is no field"),
        (config_from_hf, hf(ln_type="preln"), "ln_type is 'preln'; only 'postln', as in released models"),
        (config_from_hf, hf(norm_first=True), "'norm_first' is no field of an ALBERT and changes a model's numbers"),
        (config_from_google, google(use_alibi=True), "'use_alibi' is no field"),
        (config_from_hf, hf(sliding_window=128), "'sliding_window' is no field"),
        (config_from_hf, hf(num_experts=8), "'num_experts' is no field"),
        (config_from_hf, hf(quantization_config={"bits": 4}), "quantization_config is {'bits': 4}; only None"),
        (config_from_hf, hf(pruned_heads={"0": [1]}), "pruned_heads is "),
        (config_from_hf, [hf()], "not a JSON object"),
        (config_from_google, [google()], "a list instead of fields"),
        (config_from_hf, {"model_type": "albert"}, "none of the fields"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(read, fields, said):
    with pytest.raises(AlbertError, match=said):
        read(fields, source="f.json")


@pytest.mark.parametrize(("field", "value"), [("activation", "gelu_erf"), ("layer_norm_eps", 1e-6)])
def test_what_the_original_cannot_compute_is_not_written(field, value):
    with pytest.raises(AlbertError, match=f"model.{field} is {value}"):
        to_google(AlbertConfig(**{field: value}))


@pytest.mark.parametrize(("read", "fields"), [(config_from_google, google()), (config_from_hf, hf())])
def test_an_unknown_field_is_warned_of_by_name_and_changes_nothing(read, fields):
    """The next release of a library that writes these files must not keep them from being read."""
    with pytest.warns(UserWarning, match=r"^f.json: unknown and ignored: 'colour', 'shape'; should") as caught:
        found = read({"shape": None, **fields, "colour": "blue"}, source="f.json")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found == read(fields, source="f.json")
        assert found == read(
            fields | {"sliding_window": None, "num_experts": False, "norm_first": False}, source="f.json"
        )
