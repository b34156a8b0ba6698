"""A model whose only vocabulary is a tokenizer.json, from Hugging Face's format into the others and back."""

import dataclasses
import gzip
import json

import pytest

from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.errors import AlbertError
from albert_jax.interop import hf
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
