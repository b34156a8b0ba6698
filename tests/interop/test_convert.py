"""`convert`: every format into every other, growing on the way, and destinations that are never half there."""

import dataclasses
import shutil

import numpy as np
import pytest

from albert_jax.__main__ import main
from albert_jax.commands.inspect import describe
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError
from albert_jax.interop import convert as module
from albert_jax.interop import directory, hf
from albert_jax.interop.convert import Resize, add_pieces, convert, grow
from albert_jax.interop.load import load, open_source
from albert_jax.interop.tf_bundle import Bundle
from tests.interop.hf_goldens import CASES, GOLDENS, opened


def same(one, other):
    assert set(one) == set(other)
    for path in one:
        assert one[path].tobytes() == other[path].tobytes(), path


@pytest.mark.parametrize("case", CASES)
def test_through_ours_and_back(case, tmp_path):
    source = opened(case)
    convert(GOLDENS / case, tmp_path / "ours")
    ours = open_source(tmp_path / "ours")
    same(ours.params, source.params)
    assert (ours.config, ours.head, ours.labels) == (source.config, source.head, source.labels)
    convert(tmp_path / "ours", tmp_path / "hf", "hf")
    back = open_source(tmp_path / "hf")
    same(back.params, source.params)
    assert (back.config, back.head) == (source.config, source.head)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "ours"]


def test_through_tensorflow_and_back(tmp_path):
    convert(GOLDENS / "one_group", tmp_path / "tf", "tf1")
    convert(tmp_path / "tf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "tf_again", "tf1")
    first, second = (dict(Bundle(tmp_path / name / "model.ckpt-best")) for name in ("tf", "tf_again"))
    same(first, second)
    assert first["cls/seq_relationship/output_weights"].shape == (2, 16)
    same(open_source(tmp_path / "ours").params, opened("one_group").params)
    assert open_source(tmp_path / "ours").config == opened("one_group").config


def test_the_command_line(tmp_path, capsys):
    assert main(["convert", str(GOLDENS / "span"), str(tmp_path / "out"), "--max-positions", "20"]) == 0
    said = capsys.readouterr().out
    assert "(hf) -> " in said and "head span" in said and "logits were not compared" in said
    assert open_source(tmp_path / "out").config.max_positions == 20
    assert "albert/embeddings/position" in describe(tmp_path / "out")
    assert main(["convert", str(GOLDENS / "span"), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "is not empty" in said and said.count("\n") == 1


def test_heads_needs_a_vocabulary(capsys):
    assert main(["heads", str(GOLDENS / "one_group"), "text.txt"]) == 2
    assert "one_group has no vocabulary to read the text with" in capsys.readouterr().err


def listing(folder):
    return sorted((str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_a_destination_that_is_not_empty_stays_as_it_is(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    before = listing(tmp_path)
    with pytest.raises(AlbertError, match="place is not empty; choose another destination"):
        convert(GOLDENS / "span", place)
    with pytest.raises(AlbertError, match="mine.txt is not empty"):
        convert(GOLDENS / "span", place / "mine.txt")
    assert listing(tmp_path) == before


def test_an_empty_destination_is_used(tmp_path):
    (tmp_path / "place").mkdir()
    convert(GOLDENS / "span", tmp_path / "place")
    assert directory.is_converted(tmp_path / "place")


@pytest.mark.parametrize("moment", ["read", "write", "check", "compare"])
def test_a_failure_leaves_nothing_behind(moment, tmp_path, monkeypatch):
    def fail(*args):
        raise AlbertError("no")

    def halfway(place, model):
        directory.write(place, model)
        raise OSError(28, "No space left on device")

    source = GOLDENS / "span"
    if moment == "read":
        source = tmp_path / "source"
        shutil.copytree(GOLDENS / "span", source)
        (source / "model.safetensors").write_bytes(b"cut short")
    elif moment == "write":
        monkeypatch.setitem(module._WRITERS, "albert_jax", halfway)
    else:
        monkeypatch.setattr(module, {"check": "_unequal", "compare": "compared"}[moment], fail)
    before = listing(tmp_path)
    with pytest.raises(AlbertError):
        convert(source, tmp_path / "out")
    assert listing(tmp_path) == before


def test_what_the_original_cannot_compute(tmp_path):
    with pytest.raises(AlbertError, match="gelu_erf"):
        convert(GOLDENS / "groups", tmp_path / "out", "tf1")
    assert list(tmp_path.iterdir()) == []


# ---- growing


def test_growing_keeps_old_rows_and_draws_new_ones():
    source = opened("one_group")
    params, config = grow(source.params, source.config, max_positions=400, vocab_size=900, seed=3)
    assert (config.max_positions, config.vocab_size) == (400, 900)
    for path, rows in {"position": 12, "word": 40}.items():
        path = f"albert/embeddings/{path}"
        assert params[path][:rows].tobytes() == source.params[path].tobytes()
        new = params[path][rows:]
        assert 0.016 < new.std() < 0.019  # a normal of 0.02 cut at two deviations: 0.0176
        assert np.abs(new).max() <= 0.04
        assert len(np.unique(new)) > 0.9 * new.size
    assert params["mlm/bias"][:40].tobytes() == source.params["mlm/bias"].tobytes()
    assert not params["mlm/bias"][40:].any()
    untouched = {"albert/embeddings/position", "albert/embeddings/word", "mlm/bias"} ^ set(params)
    assert all(params[path] is source.params[path] for path in untouched)
    again, _ = grow(source.params, source.config, max_positions=400, seed=3)
    same({"x": again["albert/embeddings/position"]}, {"x": params["albert/embeddings/position"]})
    other, _ = grow(source.params, source.config, max_positions=400, seed=4)
    assert np.abs(other["albert/embeddings/position"] - params["albert/embeddings/position"]).max() > 0.01
    with pytest.raises(AlbertError, match="the position table has 12 rows and max_positions asks for 11"):
        grow(source.params, source.config, max_positions=11)


@pytest.fixture(scope="module")
def vocabulary(corpus):
    return Tokenizer.load(corpus / "vocab")


@pytest.fixture(scope="module")
def with_vocabulary(vocabulary, tmp_path_factory):
    """A Hugging Face directory with a vocabulary."""
    source = opened("one_group")
    params, config = grow(source.params, source.config, vocab_size=vocabulary.vocab_size, max_positions=32)
    place = tmp_path_factory.mktemp("hf")
    hf.write(place, dataclasses.replace(source, params=params, config=config, tokenizer=vocabulary))
    return place


def test_a_grown_model_computes_the_same(with_vocabulary, vocabulary, tmp_path):
    (tmp_path / "pieces.txt").write_text("qwxz\n▁zzyzx\n", encoding="utf-8")
    convert(with_vocabulary, tmp_path / "out", growth=Resize(max_positions=64, add_pieces=str(tmp_path / "pieces.txt")))
    (small, _), (large, tokenizer) = load(with_vocabulary, head="pretrain"), load(tmp_path / "out", head="pretrain")
    assert (large.config.vocab_size, large.config.max_positions) == (302, 64)
    text = "The simple form, 1,234 words"
    assert tokenizer.encode(text) == vocabulary.encode(text)
    assert tokenizer.pieces(tokenizer.encode("xqwxzx zzyzx")) == ["▁", "x", "qwxz", "x", "▁zzyzx"]
    ids = np.array([[2, *vocabulary.encode(text)[:20], 3]])
    ours, theirs = (model(ids, positions=[[1, 4]]) for model in (large, small))
    np.testing.assert_array_equal(ours.hidden, theirs.hidden)
    np.testing.assert_allclose(ours.mlm_logits[..., :300], theirs.mlm_logits, rtol=0, atol=1e-6)


def test_pieces_that_cannot_be_added(vocabulary):
    with pytest.raises(AlbertError, match="the piece 'a' is in the vocabulary"):
        add_pieces(vocabulary, ["a"])
    with pytest.raises(AlbertError, match="the piece 'Foo' can never be met: text is normalised to 'foo'"):
        add_pieces(vocabulary, ["Foo"])
    chinese = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天"])
    assert add_pieces(chinese, ["今"]).encode("今天") == [6, 5]


def test_a_larger_table_needs_a_larger_vocabulary(with_vocabulary, tmp_path):
    with pytest.raises(AlbertError, match="its vocabulary has 300 pieces and --vocab-size asks for 310"):
        convert(with_vocabulary, tmp_path / "out", growth=Resize(vocab_size=310))
    with pytest.raises(AlbertError, match="has no vocabulary to add pieces to"):
        convert(GOLDENS / "span", tmp_path / "out", growth=Resize(add_pieces="pieces.txt"))
    assert list(tmp_path.iterdir()) == []
    convert(GOLDENS / "span", tmp_path / "out", growth=Resize(vocab_size=64))
    assert open_source(tmp_path / "out").params["albert/embeddings/word"].shape == (64, 8)


def test_a_damaged_directory(tmp_path):
    convert(GOLDENS / "span", tmp_path / "out")
    (tmp_path / "out" / "model.json").write_text('{"format": 1}')
    with pytest.raises(AlbertError, match=r"model.json is damaged .*; convert again"):
        open_source(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    convert(GOLDENS / "span", tmp_path / "out")
    weights = tmp_path / "out" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(AlbertError, match=r"weights.safetensors: has [\d,]+ bytes"):
        open_source(tmp_path / "out")
