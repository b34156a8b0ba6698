"""The head count that a model was made with is found by its predictions."""

import dataclasses

import numpy as np
import pytest

from albert_jax.commands.heads import check_heads, head_table
from albert_jax.data.examples.draws import MASKS, Draws
from albert_jax.data.examples.masking import MaskConfig, Masker
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError
from albert_jax.interop.released import config_from_google
from albert_jax.interop.restored import build
from tests.goldens.google import draw
from tests.goldens.google.compare import flat, params

S, EXAMPLES, HEADS = 14, 20, 4
CHARACTERS = [chr(0x4E00 + number) for number in range(43)]  # each of them is a word and a piece
TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS])


@pytest.fixture(scope="module")
def model():
    config = config_from_google(draw.config("one_group"))
    weights = flat(params("one_group", config))
    weights["mlm/bias"] = np.where(np.arange(48) < 5, -100, 0).astype(np.float32)  # never a special piece
    for path in weights:
        if "attention/" in path and path.endswith("kernel"):
            weights[path] = 3 * weights[path]  # what is filled in depends on what is attended to
    assert config.heads == HEADS
    return config, weights


@pytest.fixture(scope="module")
def text(model, tmp_path_factory):
    """A text whose masked pieces are what the model with its own heads fills in; where they are does not depend on
    them."""
    config, weights = model
    random = np.random.default_rng(0)
    rows = random.integers(5, 48, (EXAMPLES, S)).astype(np.int32)
    rows[:, 0], rows[:, -1] = TOKENIZER.cls_id, TOKENIZER.sep_id
    masker = Masker(MaskConfig(max_ngram=1, mask_share=1.0, random_share=0.0), TOKENIZER, S)
    masked = [masker.apply(row, S, Draws(0, MASKS, index)) for index, row in enumerate(rows)]
    ids, positions = np.stack([m.input_ids for m in masked]), np.stack([m.positions for m in masked])
    filled = np.asarray(build(config, "mlm", dict(weights), "x")(ids, positions=positions).mlm_logits).argmax(-1)
    for row, places, pieces, m in zip(rows, positions, filled, masked, strict=True):
        row[places[m.weights > 0]] = pieces[m.weights > 0]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join("".join(TOKENIZER.pieces(row[1:-1])) for row in rows) + "\n一", encoding="utf-8")
    return path


def test_the_true_count_comes_first(model, text):
    config, weights = model
    wrong = dataclasses.replace(config, heads=2)
    scores = check_heads(weights, wrong, TOKENIZER, text, [1, 2, 4, 8, 16], max_length=S)
    assert (scores[0].heads, scores[0].accuracy) == (HEADS, 1.0)
    assert scores[1].accuracy < 0.9
    assert {score.heads for score in scores} == {1, 2, 4, 8, 16}
    assert {score.pieces for score in scores} == {EXAMPLES * round(0.15 * S)}
    assert "mlm/bias" in weights  # the caller's arrays are still there
    table = head_table(scores, wrong).splitlines()
    assert table[0] == "40 masked pieces"
    assert table[3].split() == ["4", "1.0000", f"{scores[0].loss:.4f}"]
    assert [line.split()[0] for line in table if line.endswith("configured")] == ["2"]


def test_fewer_examples_are_the_first_ones(model, text):
    """And the copies that fill the last batch do not count."""
    config, weights = model
    (whole,) = check_heads(weights, config, TOKENIZER, text, [HEADS], max_length=S)
    (part,) = check_heads(weights, config, TOKENIZER, text, [HEADS], max_length=S, examples=3)
    assert (whole.accuracy, part.accuracy) == (1.0, 1.0)
    assert part.pieces == 3 * round(0.15 * S)


def test_candidates_when_none_are_given(model, text):
    config, weights = model
    assert [score.heads for score in check_heads(weights, config, TOKENIZER, text, max_length=S)] == [HEADS]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"candidates": [3]}, "3 heads do not divide the hidden width 16"),
        ({"candidates": [0]}, "0 heads do not divide"),
        ({"max_length": 500, "config": {"max_positions": 400}}, "less than 398 pieces of text"),
        ({"config": {"vocab_size": 50}}, "the vocabulary has 48 pieces, the model 50"),
        ({"without": "mlm"}, "needs mlm"),
    ],
)
def test_what_cannot_be_checked(model, text, changes, said):
    config, weights = model
    config = dataclasses.replace(config, **changes.pop("config", {}))
    without = changes.pop("without", "no such part")
    weights = {path: x for path, x in weights.items() if not path.startswith(without)}
    with pytest.raises(AlbertError, match=said):
        check_heads(weights, config, TOKENIZER, text, **{"candidates": [HEADS], **changes})
