"""A model whose only vocabulary is a tokenizer.json, from Hugging Face's format into the others and back."""

import dataclasses
import gzip
import json
import re
import shutil

import pytest

from albert_jax.data.text import tokenizers
from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.errors import AlbertError
from albert_jax.interop import hf, same_pieces
from albert_jax.interop.convert import add_pieces, convert, grow
from albert_jax.interop.load import open_source
from tests.interop.hf_goldens import GOLDENS, opened

JSON = GOLDENS.parent / "tokenizer_json"
TEXT = "The [MASK] of (10, 20)."


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """As transformers 5 saves a model: config.json, model.safetensors, tokenizer.json and tokenizer_config.json."""
    made = tmp_path_factory.mktemp("saved")
    source = opened("one_group")
    params, config = grow(source.params, source.config, vocab_size=200)
    hf.write(made, dataclasses.replace(source, params=params, config=config))
    (made / "tokenizer.json").write_bytes(gzip.decompress((JSON / "unigram_plain_5.json.gz").read_bytes()))
    (made / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "AlbertTokenizer", "cls_token": "[CLS]"})
    )
    return made


def test_it_comes_along_into_ours_and_back(directory, tmp_path):
    convert(directory, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", "hf")
    first = open_source(directory).tokenizer
    assert isinstance(first, JsonTokenizer) and first.vocab_size == 200
    for path in (tmp_path / "ours", tmp_path / "hf"):
        found = open_source(path).tokenizer
        assert found.fingerprint == first.fingerprint and found.encode(TEXT) == first.encode(TEXT)
    assert (tmp_path / "hf" / "tokenizer.json").read_bytes() == (directory / "tokenizer.json").read_bytes()
    # The class that takes the file as it is; AlbertTokenizer of transformers 5 makes rules of its own.
    written = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())
    assert (written["tokenizer_class"], written["mask_token"]) == ("PreTrainedTokenizerFast", "[MASK]")


def test_the_original_has_no_file_for_it(directory, tmp_path):
    with pytest.warns(
        UserWarning, match=r"reads a spiece\.model or a vocab\.txt, and this model has a tokenizer\.json"
    ):
        convert(directory, tmp_path / "tf1", "tf1")
    assert open_source(tmp_path / "tf1").tokenizer is None


def test_no_pieces_are_added_to_it(directory):
    with pytest.raises(AlbertError, match=r"pieces are added to a spiece\.model or a vocab\.txt"):
        add_pieces(open_source(directory).tokenizer, ["new"])


# ---- what transformers makes of what we write

SPIECE = GOLDENS.parent / "tokenizer" / "spiece.model"
NUMBERS = ["10, 20, 30", "In 2019, 10 people", "(10, 20)", "x10,y", "£10,000", "00,", "20,(", "한국어 텍스트", "1.5,"]


@pytest.fixture(scope="module", params=[True, False])
def written(request, tmp_path_factory):
    """A SentencePiece vocabulary, and the tokenizer.json that is written for it, read by the library's rules."""
    tokenizer, made = tokenizers.load(SPIECE, lower=request.param), tmp_path_factory.mktemp("written")
    hf.write_tokenizer(made, tokenizer, 512)
    return tokenizer, made


def test_numbers_before_a_comma_are_cut_as_the_original_cuts_them(written):
    """By its pieces alone the library reads a number before a comma as one that the model never saw. Of 2,174
    paragraphs of Python's manual, 28 were cut otherwise so, and 2 are."""
    tokenizer, made = written
    theirs = same_pieces.of_transformers(made)
    assert same_pieces.differing(tokenizer, theirs, [*NUMBERS, *same_pieces.TEXTS]) == []
    assert theirs.pieces(theirs.encode("x10,y 2019,")) == ["▁x", "▁10", ",", "y", "▁201", "▁9", ","]
    awkward = json.loads((SPIECE.parent / "golden.json").read_text())["strings"]
    # A piece that reaches over the comma, an unknown piece that is spelled, a number of more than four digits.
    left = ["(10,20)", "10,20,30", "1,2,3", "<unk>", "a <unk> b", "Values 한국 日本\t12,34510, "]
    assert same_pieces.differing(tokenizer, theirs, awkward) == left
    assert json.loads((made / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_conversion_tells_which_texts_are_cut_otherwise(directory, tmp_path, capsys):
    """transformers 5 rebuilt this tokenizer.json from the vocabulary that stands beside it."""
    both = tmp_path / "both"
    shutil.copytree(directory, both)
    shutil.copy(SPIECE.parent / "lower.model", both / "spiece.model")
    (tmp_path / "mine.txt").write_text("10, 20\nplain words\n\nit ``is''\n")
    convert(both, tmp_path / "hf", "hf", texts=str(tmp_path / "mine.txt"))
    lines = capsys.readouterr().out.splitlines()
    start = f"pieces by transformers and by albert_jax in {both}: other ones in "
    at = next(i for i, line in enumerate(lines) if line.startswith(start))
    counts = f"{len(same_pieces.TEXTS)} built-in texts and 2 of 3 texts of {tmp_path}/mine.txt"
    assert re.fullmatch(rf"{re.escape(start)}\d+ of {counts}", lines[at])
    assert lines[at + 1].startswith("  '10, 20': ") and lines[at + 2].startswith("  \"it ``is''\": ")
    # A "▁" in the text is a space of the original's and nothing of the library's.
    built_in = f"1 of {len(same_pieces.TEXTS)} built-in texts"
    assert f"in {tmp_path}/hf: other ones in {built_in} and 0 of 3 texts of" in "\n".join(lines)
    assert "  '▁the ##the': " in lines[-2]


def test_what_bert_makes_of_a_vocab_txt(tmp_path):
    tokenizer = tokenizers.load(SPIECE.parent / "vocab.txt")
    hf.write_tokenizer(tmp_path, tokenizer, 512)
    theirs = same_pieces.of_transformers(tmp_path)
    assert same_pieces.differing(tokenizer, theirs, ["the value", "a" * 100, "a" * 101, "private\ue000use"]) == [
        "a" * 101,
        "private\ue000use",
    ]
    assert theirs.encode("the value of 中文") == tokenizer.encode("the value of 中文")


def test_a_file_of_texts_that_is_not_there(directory, tmp_path):
    with pytest.raises(AlbertError, match=r"none\.txt: cannot be read"):
        convert(directory, tmp_path / "out", texts=str(tmp_path / "none.txt"))
    assert not (tmp_path / "out").exists()
