"""The table of names: both directions, and that nothing is left over on either side."""

import math
import re

import numpy as np
import pytest

from albert_jax.errors import AlbertError
from albert_jax.interop.names import from_ours, our_shape, table, to_ours
from albert_jax.model.config import albert

SMALL = albert("tiny", vocab_size=30, hidden_size=12, heads=2, feed_forward_size=20, embedding_size=8, max_positions=9,
               groups=2, inner_groups=2, layers=4)  # fmt: skip
EQUAL = albert("tiny", vocab_size=30, hidden_size=8, heads=2, feed_forward_size=20, embedding_size=8, max_positions=9)
HEADS = {"mlm", "order", "classifier", "span", "albert/pooler"}


def parameters(config, without=(), seed=0):
    random = np.random.default_rng(seed)
    rows = [row for row in table(config) if row.part not in without]
    return {r.ours: random.normal(size=[n or 3 for n in our_shape(r, config)]).astype(np.float32) for r in rows}


@pytest.mark.parametrize("without", [(), HEADS, {"classifier", "span"}], ids=["all", "encoder", "pretraining"])
@pytest.mark.parametrize("config", [SMALL, EQUAL], ids=["groups", "equal"])
@pytest.mark.parametrize("kind", ["tf", "hf"])
def test_round_trips_are_bitwise(kind, config, without):
    params = parameters(config, without)
    theirs = from_ours(kind, params, config)
    assert len(theirs) == len(params) + (2 if kind == "hf" and config is EQUAL else 0)
    back = to_ours(kind, theirs, config)
    assert set(back) == set(params)
    for path in params:
        assert back[path].dtype == np.float32 and back[path].flags.c_contiguous
        np.testing.assert_array_equal(back[path], params[path], path)
    again = from_ours(kind, back, config)
    assert list(again) == list(theirs)
    assert all(again[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_names_as_they_stand_in_released_files():
    params = parameters(SMALL)
    tf, hf = from_ours("tf", params, SMALL), from_ours("hf", params, SMALL)
    block = "albert/encoder/group_1/block_0"
    their_block = "albert.encoder.albert_layer_groups.1.albert_layers.0"
    for ours, in_tf, in_hf in [
        (f"{block}/feed_forward/output/kernel",
         "bert/encoder/transformer/group_1/inner_group_0/ffn_1/intermediate/output/dense/kernel",
         f"{their_block}.ffn_output.weight"),
        (f"{block}/attention_layer_norm/scale", "bert/encoder/transformer/group_1/inner_group_0/LayerNorm/gamma",
         f"{their_block}.attention.LayerNorm.weight"),
        (f"{block}/feed_forward_layer_norm/bias", "bert/encoder/transformer/group_1/inner_group_0/LayerNorm_1/beta",
         f"{their_block}.full_layer_layer_norm.bias"),
        (f"{block}/attention/output/kernel",
         "bert/encoder/transformer/group_1/inner_group_0/attention_1/output/dense/kernel",
         f"{their_block}.attention.dense.weight"),
        ("mlm/bias", "cls/predictions/output_bias", "predictions.bias"),
        ("classifier/bias", "output_bias", "classifier.bias"),
    ]:  # fmt: skip
        turned = ours.endswith("kernel")
        np.testing.assert_array_equal(tf[in_tf], params[ours])
        np.testing.assert_array_equal(hf[in_hf], params[ours].T if turned else params[ours])
    assert tf["cls/seq_relationship/output_weights"].shape == (2, 12)
    np.testing.assert_array_equal(tf["cls/seq_relationship/output_weights"], params["order/kernel"].T)
    np.testing.assert_array_equal(hf["qa_outputs.weight"], params["span/kernel"].T)
    assert "embeddings.word_embeddings.weight" in from_ours("hf", parameters(SMALL, HEADS), SMALL)  # a bare model's


@pytest.mark.parametrize(("size", "count"), [("base", 11_683_584), ("large", 17_683_968), ("xlarge", 58_724_864)])
def test_the_table_has_every_parameter(size, count):
    config = albert(size)
    sizes = {r.ours: math.prod(n or 0 for n in our_shape(r, config)) for r in table(config)}
    assert sum(n for path, n in sizes.items() if path.startswith("albert/")) == count


def test_a_checkpoint_of_tensorflow_in_the_middle_of_training():
    params = parameters(SMALL, {"classifier", "span"})
    tf = {f"module/{name}": tensor for name, tensor in from_ours("tf", params, SMALL).items()}
    slots = {f"{name}/{slot}": -t for name, t in tf.items() for slot in ("adam_m", "adam_v", "lamb_m", "lamb_v")}
    found = to_ours("tf", {**tf, **slots, "global_step": np.int64(7)}, SMALL)
    assert set(found) == set(params)
    np.testing.assert_array_equal(found["order/kernel"], params["order/kernel"])


def test_ties_and_buffers_of_hugging_face_are_used_up():
    params = parameters(SMALL, {"classifier", "span"})
    hf = from_ours("hf", params, SMALL)
    more = {
        "predictions.decoder.weight": params["albert/embeddings/word"].copy(),
        "predictions.decoder.bias": params["mlm/bias"].copy(),
        "albert.embeddings.position_ids": np.arange(9)[None],
        "albert.embeddings.token_type_ids": np.zeros((1, 9), np.int64),
    }
    assert set(to_ours("hf", hf | more, SMALL)) == set(params)


def refused(kind, config, message, change, without=()):
    theirs = from_ours(kind, parameters(config, without), config)
    change(theirs)
    with pytest.raises(AlbertError, match=message) as told:
        to_ours(kind, theirs, config, "FILE")
    assert str(told.value).startswith("FILE: ") and "\n" not in str(told.value)


WORD = "bert/embeddings/word_embeddings"
HF_WORD = "albert.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("kind", "message", "change"),
    [
        ("tf", "no place in this model for bert/extra", lambda t: t.update({"bert/extra": t[WORD]})),
        ("tf", "no place in this model for a, b, c and 2 more", lambda t: t.update(dict.fromkeys("abcde", t[WORD]))),
        ("tf", f"{WORD} and module/{WORD} are both albert/embeddings/word",
         lambda t: t.update({f"module/{WORD}": t[WORD]})),
        ("hf", f"{re.escape(HF_WORD)} and embeddings.word_embeddings.weight are both albert/embeddings/word",
         lambda t: t.update({"embeddings.word_embeddings.weight": t[HF_WORD]})),
        ("tf", f"nothing fills albert/embeddings/word; it should hold a tensor {WORD}", lambda t: t.pop(WORD)),
        ("hf", "nothing fills mlm/dense/kernel; it should hold a tensor predictions.dense.weight",
         lambda t: t.pop("predictions.dense.weight")),
        ("tf", r"word_embeddings has shape \(29, 8\), albert/embeddings/word needs \(30, 8\)",
         lambda t: t.update({WORD: t[WORD][1:]})),
        ("hf", r"classifier.weight has shape \(3, 11\), classifier/kernel needs \(any, 12\)",
         lambda t: t.update({"classifier.weight": t["classifier.weight"][:, 1:]})),
        ("hf", r"has shape \(30, 8, 1\), albert/embeddings/word needs \(30, 8\)",
         lambda t: t.update({HF_WORD: t[HF_WORD][..., None]})),
        ("tf", "word_embeddings is int32; albert/embeddings/word needs floating-point",
         lambda t: t.update({WORD: t[WORD].astype(np.int32)})),
        ("hf", "predictions.decoder.weight differs from albert.embeddings.word_embeddings.weight",
         lambda t: t.update({"predictions.decoder.weight": t[HF_WORD] + 1})),
        ("hf", "predictions.decoder.bias differs from predictions.bias",
         lambda t: t.update({"predictions.decoder.bias": t["predictions.bias"] + 1})),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_both_sides(kind, message, change):
    refused(kind, SMALL, message, change)


def test_a_projection_that_is_none():
    name = "albert.encoder.embedding_hidden_mapping_in.weight"
    refused("hf", EQUAL, f"{name} is not the identity", lambda t: t.update({name: t[name] * 2}))
    bias = "albert.encoder.embedding_hidden_mapping_in.bias"
    refused("hf", EQUAL, f"{bias} is not the identity", lambda t: t.update({bias: t[bias] + 1}))


def test_a_tied_bias_without_its_head():
    bias = np.zeros(30, np.float32)
    change = {"predictions.decoder.bias": bias}
    refused("hf", SMALL, "predictions.decoder.bias is there but not the rest", lambda t: t.update(change), HEADS)


def test_ours_must_be_whole_too():
    params = parameters(SMALL)
    for change, message in [
        ({"albert/pooler/kernel": None}, "albert/pooler/kernel is missing; a TF 1 checkpoint needs it"),
        ({"mlm/bias": np.zeros(31, np.float32)}, r"mlm/bias has shape \(31,\), the configuration says \(30\)"),
        ({"value/kernel": np.zeros(3)}, "value/kernel has no name in a TF 1 checkpoint"),
    ]:
        changed = {path: x for path, x in (params | change).items() if x is not None}
        with pytest.raises(AlbertError, match=message):
            from_ours("tf", changed, SMALL)
