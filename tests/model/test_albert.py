"""The model: parameter counts of the paper, sharing, knobs that change nothing, and what must not leak."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from albert_jax.errors import AlbertError
from albert_jax.model.albert import Albert
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.model.heads import (
    AlbertForMultipleChoice,
    AlbertForPretraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
)

SMALL = albert("tiny", vocab_size=60, hidden_size=32, heads=4, feed_forward_size=48, embedding_size=16, layers=4)


def build(config, kind=Albert, *rest, seed=0):
    return nnx.jit(lambda: kind(config, *rest, rngs=nnx.Rngs(params=jax.random.key(seed))))()


def run(model, *inputs, **options):
    """The model's output, compiled: op by op would take seconds."""
    graph, state = nnx.split(model, nnx.Param)
    return jax.jit(lambda state, inputs: nnx.merge(graph, state)(*inputs, **options))(state, inputs)


def enlarge(model, seed=1, spread=0.3):
    """Random weights far from the initial ones, so that every part of the model matters to the output."""
    graph, state = nnx.split(model, nnx.Param)
    leaves, tree = jax.tree.flatten(nnx.to_pure_dict(state))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    leaves = [x + spread * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    return nnx.merge(graph, nnx.State(jax.tree.unflatten(tree, leaves)))


def definition(config):
    return nnx.split(nnx.eval_shape(lambda: Albert(config, rngs=nnx.Rngs(params=jax.random.key(0)))), nnx.Param)[0]


def batch(rows=3, length=12, vocab=60, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(5, vocab, (rows, length)).astype(np.int32)
    segments = np.tile((np.arange(length) > length // 2).astype(np.int32), (rows, 1))
    mask = np.arange(length)[None] < np.array([length, length - 3, length - 5])[:rows, None]
    return ids, segments, mask


def parameters(config):
    shapes = nnx.eval_shape(lambda: build(config))
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(nnx.to_pure_dict(nnx.state(shapes, nnx.Param))))


@pytest.mark.parametrize(
    ("size", "count"),
    [("base", 11_683_584), ("large", 17_683_968), ("xlarge", 58_724_864), ("xxlarge", 222_595_584)],
)
def test_parameter_counts_of_the_paper(size, count):
    assert parameters(albert(size)) == count


def test_parameter_count_does_not_depend_on_depth():
    assert parameters(dataclasses.replace(SMALL, layers=2)) == parameters(dataclasses.replace(SMALL, layers=9))


def test_group_layers_follow_integers():
    assert AlbertConfig(layers=12, groups=5).group_layers == (3, 2, 3, 2, 2)
    # int(i / 22 * 22) would give 21 and 22 layers' worth of skips; each group has one layer.
    assert AlbertConfig(layers=22, groups=22).group_layers == (1,) * 22


def test_eleven_blocks_of_a_layer_stay_in_order():
    """Splitting and merging a model sorts the names of its blocks by the alphabet: block_10 before block_2."""
    model = build(dataclasses.replace(SMALL, layers=1, inner_groups=11))
    merged = nnx.merge(*nnx.split(model))
    ((blocks, layers),) = merged.encoder.groups()
    assert (len(blocks), layers) == (11, 1)
    for inner, block in enumerate(blocks):
        want = model.encoder.group_0[f"block_{inner}"].feed_forward.output.kernel[...]
        np.testing.assert_array_equal(block.feed_forward.output.kernel[...], want)


def test_scan_equals_loop_and_remat_changes_nothing():
    config = dataclasses.replace(SMALL, layers=3, groups=2, inner_groups=2)
    ids, segments, mask = batch()
    state = nnx.split(enlarge(build(config)), nnx.Param)[1]

    def loss(params, changed):
        model = nnx.merge(definition(changed), params)
        out = model(ids, segments, mask)
        return (jnp.where(mask[..., None], out.hidden, 0) ** 2).sum() + out.pooled.sum()

    gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    want, want_grads = gradient(state, config)
    largest = max(float(np.abs(x).max()) for x in jax.tree.leaves(want_grads))
    for changes in ({"scan": False}, {"remat": "dots"}, {"remat": "full"}):
        got, grads = gradient(state, dataclasses.replace(config, **changes))
        np.testing.assert_allclose(got, want, rtol=1e-6)
        for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest)


def test_remat_does_recompute():
    """The knob is no ornament: `full` keeps fewer numbers for the backward pass than `none`."""
    ids, segments, mask = batch()
    state = nnx.split(build(SMALL), nnx.Param)[1]

    def kept(policy):
        graph = definition(dataclasses.replace(SMALL, remat=policy, scan=False, layers=2))
        forward = lambda params: nnx.merge(graph, params)(ids, segments, mask).hidden.sum()  # noqa: E731
        _, backward = jax.vjp(forward, state)
        return sum(x.size for x in jax.tree.leaves(backward))

    assert kept("full") < kept("dots") < kept("none")


def test_lowered_program_does_not_grow_with_depth():
    ids, segments, mask = batch()
    initial = build(SMALL)

    def size(layers):
        config = dataclasses.replace(SMALL, layers=layers)
        graph, state = definition(config), nnx.split(initial, nnx.Param)[1]
        loss = lambda params: nnx.merge(graph, params)(ids, segments, mask).hidden.sum()  # noqa: E731
        return len(jax.jit(jax.grad(loss)).lower(state).as_text())

    assert size(24) <= 1.1 * size(2)


def test_all_hidden_are_the_states_of_shallower_models():
    model = enlarge(build(SMALL))
    ids, segments, mask = batch()
    out = run(model, ids, segments, mask, all_hidden=True)
    assert out.all_hidden.shape == (4, 3, 12, 32)
    np.testing.assert_array_equal(out.all_hidden[-1], out.hidden)
    shallow = nnx.merge(definition(dataclasses.replace(SMALL, layers=2)), nnx.split(model, nnx.Param)[1])
    np.testing.assert_allclose(run(shallow, ids, segments, mask).hidden, out.all_hidden[1], atol=1e-5)


def test_padding_does_not_reach_real_tokens():
    model = enlarge(build(SMALL, AlbertForPretraining))
    ids, segments, mask = batch()
    positions = np.array([[1, 3], [0, 4], [2, 5]], np.int32)
    want = run(model, ids, segments, mask, positions)
    other = np.where(mask, ids, 7)
    longer = [np.pad(x, ((0, 0), (0, 4)), constant_values=v) for x, v in ((other, 9), (segments, 1), (mask, False))]
    for got, expected in zip(run(model, *longer, positions), want, strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_embedding_factor_layer_is_absent_when_widths_agree():
    config = dataclasses.replace(SMALL, embedding_size=32)
    assert not hasattr(build(config), "projection")
    assert run(build(config), *batch()).hidden.shape == (3, 12, 32)


def test_too_long_a_sequence_is_an_error_that_names_both_numbers():
    ids = np.zeros((1, SMALL.max_positions + 1), np.int32)
    with pytest.raises(AlbertError, match="129 pieces is longer than the position table of 128"):
        build(SMALL)(ids)


def test_initial_values_are_cut_normals_of_nominal_deviation():
    table = np.asarray(build(albert("tiny", vocab_size=4000)).embeddings.word[...])
    assert 0.0173 < table.std() < 0.0179  # 0.02 cut at two deviations: 0.01759
    assert np.abs(table).max() <= 0.04
    assert abs(table.mean()) < 2e-4


def test_mlm_head_is_tied_to_the_word_table():
    """Decoding uses the table itself: its gradient has a part that comes through the head alone."""
    model = enlarge(build(SMALL, AlbertForPretraining))
    hidden = jnp.ones((1, 2, 32))
    picked = np.array([[1]], np.int32)
    logits = model.mlm(hidden, picked, model.albert.embeddings.word[...])
    x = jax.nn.gelu(hidden[:, 1] @ model.mlm.dense.kernel[...] + model.mlm.dense.bias[...], approximate=True)
    x = (x - x.mean()) / jnp.sqrt(x.var()) * model.mlm.layer_norm.scale[...] + model.mlm.layer_norm.bias[...]
    want = x @ model.albert.embeddings.word[...].T + model.mlm.bias[...]
    np.testing.assert_allclose(logits[:, 0], want, atol=1e-4)


def test_heads_give_their_shapes_in_float32():
    ids, segments, mask = batch()
    config = dataclasses.replace(SMALL, compute_dtype="bfloat16")
    sequence = run(build(config, AlbertForSequenceClassification, 5), ids, segments, mask)
    token = run(build(config, AlbertForTokenClassification, 7), ids, segments, mask)
    assert (sequence.shape, sequence.dtype) == ((3, 5), jnp.float32)
    assert (token.shape, token.dtype) == ((3, 12, 7), jnp.float32)
    start, end = run(build(config, AlbertForQuestionAnswering), ids, segments, mask)
    assert (start.shape, end.shape, start.dtype, end.dtype) == ((3, 12), (3, 12), jnp.float32, jnp.float32)


def test_each_choice_is_scored_on_its_own_with_a_dropout_key_of_its_own():
    config = dataclasses.replace(SMALL, layers=1, hidden_dropout=0.3)
    model = enlarge(build(config, AlbertForMultipleChoice))
    twice = [np.stack([x, x], axis=1) for x in batch()]  # [B, C, S], both choices the same text
    plain = run(model, *twice)
    assert (plain.shape, plain.dtype) == ((3, 2), jnp.float32)
    np.testing.assert_array_equal(plain[:, 0], plain[:, 1])
    dropped = run(model, *twice, dropout_keys=jax.random.split(jax.random.key(0), 3))
    assert np.abs(dropped[:, 0] - dropped[:, 1]).min() > 1e-3


def test_dropout_needs_keys_and_follows_the_example():
    config = dataclasses.replace(SMALL, hidden_dropout=0.3, attention_dropout=0.3)
    model = enlarge(build(config))
    ids, segments, mask = batch()
    keys = jax.random.split(jax.random.key(3), 3)
    drop = jax.jit(lambda ids, segments, mask, keys: model(ids, segments, mask, dropout_keys=keys).hidden)
    plain, dropped = run(model, ids, segments, mask).hidden, drop(ids, segments, mask, keys)
    assert float(jnp.abs(plain - dropped).max()) > 0.1
    turned = drop(ids[::-1], segments[::-1], mask[::-1], keys[::-1])[::-1]
    np.testing.assert_allclose(np.where(mask[..., None], turned, 0), np.where(mask[..., None], dropped, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, "not a multiple of model.heads"),
        ({"groups": 9}, "groups without a layer"),
        ({"hidden_dropout": 1.0}, "must lie in"),
        ({"layers": 0}, "at least 1"),
    ],
)
def test_bad_fields_are_named(changes, message):
    with pytest.raises(AlbertError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_unknown_size_lists_the_known():
    with pytest.raises(AlbertError, match="xxlarge"):
        albert("huge")


def test_dropout_of_versions():
    assert albert("base", 1).hidden_dropout == 0.1
    assert albert("base", 2).hidden_dropout == albert("xxlarge", 1).hidden_dropout == 0.0
