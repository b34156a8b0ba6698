"""Initial values from the corpus."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from albert_jax.model.albert import attention_probabilities
from albert_jax.model.config import albert
from albert_jax.model.heads import AlbertForPretraining
from albert_jax.model.initial import initial_values, word_columns
from albert_jax.trees import flatten

CONFIG = albert("small", vocab_size=200, heads=4, hidden_size=128, embedding_size=64, feed_forward_size=64, layers=2)
COUNTS = np.arange(200) * 10


def _values(config=CONFIG, seed=0):
    vectors = np.random.default_rng(1).standard_normal((200, word_columns(config))).astype(np.float32)
    vectors[:5] = 0  # special pieces, which no document has
    return initial_values(config, vectors, COUNTS, seed), vectors


def _model(values, config=CONFIG):
    model = AlbertForPretraining(config, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    for path, value in values.items():
        *above, last = path.split("/")
        node = params
        for name in above:
            node = node[name]
        node[last] = jnp.asarray(value)
    nnx.update(model, params)
    return model


@pytest.mark.parametrize("changes", [{}, {"embedding_size": 128}, {"groups": 2, "inner_groups": 2}], ids=str)
def test_every_path_and_shape_is_the_models(changes):
    config = dataclasses.replace(CONFIG, **changes)
    shapes = jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(AlbertForPretraining(config, rngs=nnx.Rngs(0)))))
    want = {path: leaf.shape for path, leaf in flatten(shapes).items()}
    values, _ = _values(config)
    assert {path: value.shape for path, value in values.items()}.items() <= want.items()
    assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in values.values())
    blocks = config.groups * config.inner_groups
    assert sum(path.endswith("attention/query/kernel") for path in values) == blocks


def test_the_word_table_keeps_the_angles_of_the_vectors_beside_the_columns_of_positions():
    values, vectors = _values()
    table, first = values["albert/embeddings/word"], 64 - word_columns(CONFIG)
    assert first == 16 and not table[5:, :first].any()
    cosine = lambda x: (x @ x.T) / np.outer(*[np.linalg.norm(x, axis=1)] * 2)  # noqa: E731
    np.testing.assert_allclose(cosine(table[5:, first:]), cosine(vectors[5:]), atol=1e-5)
    assert table[:5].std() == pytest.approx(0.2, rel=0.2)  # drawn, of the size of the others
    assert np.sqrt((table[5:, first:] ** 2).mean()) == pytest.approx(0.2, rel=1e-3)


def test_the_bias_gives_the_frequencies_of_the_pieces():
    values, _ = _values()
    np.testing.assert_allclose(np.exp(values["mlm/bias"]), (COUNTS + 1) / (COUNTS + 1).sum(), rtol=1e-5)


def test_half_of_the_heads_look_one_place_left_and_right():
    values, _ = _values()
    ids = np.random.default_rng(2).integers(5, 200, (1, 24))
    probabilities = np.asarray(attention_probabilities(_model(values).albert, ids))
    inner = np.arange(3, 21)
    for head, distance in ((0, -1), (1, 1)):
        # From the second layer on: what enters the first is not yet of the size that the heads are made for.
        looks = probabilities[1, 0, head][inner, inner + distance]
        assert looks.min() > 3 / 24, (head, looks)
        assert (probabilities[1, 0, head][inner].argmax(axis=-1) == inner + distance).mean() > 0.9
    assert probabilities[1, 0, 2:].max() < 0.5  # free for what words say


def test_another_seed_draws_other_values_and_the_same_seed_the_same():
    first, again, other = (_values(seed=seed)[0] for seed in (0, 0, 1))
    assert all(np.array_equal(first[path], again[path]) for path in first)
    assert not np.array_equal(first["albert/projection/kernel"], other["albert/projection/kernel"])
