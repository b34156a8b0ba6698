"""Attention probabilities beside the same in NumPy, from the hidden states that the encoder returns."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from albert_jax.errors import AlbertError
from albert_jax.model.albert import attention_probabilities
from tests.model.test_albert import SMALL, batch, build, enlarge


@pytest.fixture(scope="module", params=[1, 2], ids=["one block a layer", "two blocks a layer"])
def case(request):
    """Model, batch, the input of each layer [L, B, S, D] and the probabilities."""
    model = enlarge(build(dataclasses.replace(SMALL, groups=2, inner_groups=request.param)))
    ids, segments, mask = batch()
    graph, params = nnx.split(model, nnx.Param)

    @jax.jit
    def inputs(params):
        albert = nnx.merge(graph, params)
        first = albert.projection(albert.embeddings(ids, segments, None))
        return first, albert(ids, segments, mask, all_hidden=True).all_hidden

    first, hidden = inputs(params)
    entering = np.concatenate([np.asarray(first)[None], np.asarray(hidden)[:-1]])
    return model, (ids, segments, mask), entering, np.asarray(attention_probabilities(model, ids, segments, mask))


def test_probabilities_are_the_softmax_of_the_scores(case):
    model, (_, _, mask), entering, found = case
    config = model.config
    L, B, S, D = entering.shape
    assert found.shape == (L * config.inner_groups, B, config.heads, S, S)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))["encoder"]
    for layer, x in enumerate(entering):
        attention = params[f"group_{layer * 2 // L}"]["block_0"]["attention"]

        def heads(name, attention=attention, x=x):
            dense = attention[name]
            return (x @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])).reshape(B, S, config.heads, -1)

        scores = np.einsum("bsnk,btnk->bnst", heads("query"), heads("key")) / np.sqrt(D // config.heads)
        scores = np.where(mask[:, None, None], scores, -np.inf)
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        expected = powers / powers.sum(axis=-1, keepdims=True)
        assert np.ptp(expected) > 0.1  # else a uniform answer would pass
        np.testing.assert_allclose(found[layer * config.inner_groups], expected, atol=1e-5)


def test_rows_are_distributions_over_real_tokens(case):
    _, (_, _, mask), _, found = case
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    for row in (1, 2):
        assert not mask[row].all()
        assert found[:, row][..., ~mask[row]].max() == 0


def test_an_id_of_another_vocabulary_is_refused(case):
    with pytest.raises(AlbertError, match=r"input_ids hold 3 to 60, outside 0\.\.59"):
        attention_probabilities(case[0], np.array([[3, 60]]))
