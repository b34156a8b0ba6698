"""tokenizer.json: ids of the library that writes it, what the file may hold, and which file is taken for what."""

import gzip
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import load
from albert_jax.errors import AlbertError

GOLDENS = Path(__file__).parents[2] / "goldens"
HERE = GOLDENS / "tokenizer_json"
STRINGS = json.loads((GOLDENS / "tokenizer" / "golden.json").read_text())["strings"]
GOLDEN = json.loads((HERE / "golden.json").read_text())
RULES = json.loads((HERE / "rules.json").read_text())


def content(case):
    return gzip.decompress((HERE / f"{case}.json.gz").read_bytes())


@pytest.fixture(scope="module", params=sorted(GOLDEN))
def case(request):
    return request.param, JsonTokenizer(content(request.param))


def test_ids_are_the_librarys(case):
    name, tokenizer = case
    assert len(GOLDEN[name]) == len(STRINGS) >= 500
    for text, ids in zip(STRINGS, GOLDEN[name], strict=True):
        assert tokenizer.encode(text) == ids, text


def test_batch_and_offsets(case):
    _, tokenizer = case
    ids, lengths = tokenizer.encode_batch(STRINGS)
    assert ids.dtype == np.uint16 and lengths.dtype == np.int32
    rows = [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]
    special = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
    for text, row in zip(STRINGS, rows, strict=True):
        found, offsets = tokenizer.encode_with_offsets(text)
        assert found == row == tokenizer.encode(text) and not special & set(row)
        starts = [start for start, _ in offsets]
        assert starts == sorted(starts) and all(0 <= start <= end <= len(text) for start, end in offsets)
        for number, (start, end) in zip(found, offsets, strict=True):
            piece = tokenizer.pieces([number])[0].strip("▁").removeprefix("##")
            if text.isascii() and number != tokenizer.unk_id and "``" not in text and "''" not in text:
                assert text[start:end].lower() == piece.lower(), text


@pytest.mark.parametrize("rule", RULES, ids=[rule["what"] for rule in RULES])
def test_each_rule_is_the_librarys(rule):
    tokenizer = JsonTokenizer(json.dumps(rule["file"]).encode())
    for text, ids in zip(rule["texts"], rule["ids"], strict=True):
        assert tokenizer.encode(text) == ids == tokenizer.encode_with_offsets(text)[0], text


def test_offsets_by_hand():
    tokenizer = JsonTokenizer(content("unigram_uncased_4"))
    ids, offsets = tokenizer.encode_with_offsets(" The (Café) ``½''")
    assert tokenizer.pieces(ids) == ["▁the", "▁", "(", "▁c", "a", "f", "e", ")", "▁", '"', "1", "<unk>", "2", '"']
    assert offsets == [(1, 4), (5, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11), (12, 12), (12, 14), (14, 15),
                       (14, 15), (14, 15), (15, 17)]  # fmt: skip


def test_what_the_files_tell():
    tokenizer = JsonTokenizer(content("unigram_cased_5"))
    assert (tokenizer.vocab_size, tokenizer.normalization) == (1000, Normalization(lower=False, keep_accents=True))
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert ids == (0, 1, 2, 3, 4)
    assert tokenizer.decode([2, *tokenizer.encode("The value of (a)."), 3, 0]) == "[CLS] The value of( a). [SEP] <pad>"
    spiece = load(GOLDENS / "tokenizer" / "spiece.model")
    assert (tokenizer.word_starts == spiece.word_starts).all()
    words = JsonTokenizer(content("wordpiece_uncased_5"))
    assert (words.pad_id, words.unk_id, words.cls_id, words.sep_id, words.mask_id) == (0, 10, 11, 12, 13)
    assert words.normalization == Normalization(lower=True, keep_accents=False)
    assert words.decode(words.encode("the cafe, in 12")) == "the cafe , in 12"
    assert words.normalize("The Café,中") == "the cafe , 中"
    txt = load(GOLDENS / "tokenizer" / "vocab.txt")
    assert (words.word_starts == txt.word_starts).all() and words.pieces(range(400)) == txt.pieces(range(400))


def test_an_added_token_has_an_id_after_the_models(tmp_path):
    fields = next(rule["file"] for rule in RULES if rule["what"] == "added")
    tokenizer = JsonTokenizer(json.dumps(fields).encode())
    assert tokenizer.vocab_size == 25 and tokenizer.pieces([22, 23, 24]) == ["AB", "cab", "<e>"]
    ids, offsets = tokenizer.encode_with_offsets("a<e>b Cab")
    assert (ids, offsets) == ([6, 24, 5, 8, 5, 23], [(0, 1), (1, 4), (4, 4), (4, 5), (6, 6), (6, 9)])


def test_saved_and_pickled(tmp_path):
    for name in ("unigram_plain_5", "wordpiece_cased_5"):
        tokenizer = JsonTokenizer(content(name), {"cls_token": "[CLS]"})
        tokenizer.save(tmp_path / name)
        for other in (load(tmp_path / name), pickle.loads(pickle.dumps(tokenizer))):
            assert isinstance(other, JsonTokenizer) and other.fingerprint == tokenizer.fingerprint
            assert other.encode("The Café 中") == tokenizer.encode("The Café 中")
        laid_out = json.dumps(json.loads(tokenizer.content) | {"padding": {"pad_id": 0}}, indent=4).encode()
        assert JsonTokenizer(laid_out).fingerprint == tokenizer.fingerprint
    other = json.loads(tokenizer.content)
    other["normalizer"]["lowercase"] = True
    assert JsonTokenizer(json.dumps(other).encode()).fingerprint != tokenizer.fingerprint


def test_a_directory_with_only_a_tokenizer_json_is_read_by_it(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content("unigram_plain_5").replace(b'"[CLS]"', b'"<s>"'))
    with pytest.raises(AlbertError, match=r"tokenizer\.json: it has no cls_token, such as \[CLS\]; give an ALBERT's"):
        load(tmp_path)
    names = {"cls_token": {"content": "<s>", "lstrip": False}, "mask_token": "[MASK]", "do_lower_case": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    tokenizer = load(tmp_path)
    assert isinstance(tokenizer, JsonTokenizer) and (tokenizer.cls_id, tokenizer.special["cls_token"]) == (2, "<s>")
    assert tokenizer.normalization.lower  # its own rules, whatever stands beside it
    (tmp_path / "spiece.model").write_bytes((GOLDENS / "tokenizer" / "lower.model").read_bytes())
    assert isinstance(load(tmp_path), Tokenizer)


def changed(**changes):
    fields = json.loads(content("unigram_plain_5"))
    for path, value in changes.items():
        *above, last = path.split("__")
        place = fields
        for name in above:
            place = place[name]
        place[last] = value
    return json.dumps(fields).encode()


TEMPLATE = json.loads(content("unigram_plain_5"))["post_processor"]
LATE = {
    "id": 5,
    "content": "(",
    "single_word": True,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": False,
}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (b"{", r"t\.json is damaged \(.*\); not a tokenizer\.json of the tokenizers library; copy it again"),
        (b"[]", r"t\.json is damaged"),
        (b"\xff\xfe", r"t\.json is damaged"),
        (changed(model__type="BPE"), "a model 'BPE' is not an ALBERT's; a Unigram or a WordPiece is read"),
        (changed(model__byte_fallback=True), "a Unigram with byte_fallback is not known here; give the model's spiece"),
        (changed(model__unk_id=None), "a Unigram without an unk_id is not known here"),
        (changed(model__unk_id=7), "its model's unknown piece is '\"', not its unk_token"),
        (changed(model__vocab=[["a", 0.0], ["a", 0.0]]), "the piece 'a' is there twice"),
        (changed(model__vocab=[]), "its vocabulary is empty"),
        (changed(normalizer={"type": "ByteLevel"}), "the normalizer 'ByteLevel' is not known here; give the mo"),
        (changed(normalizer=["NFKD"]), r"normalizer is \"\['NFKD'\]\", not an object with a type"),
        (changed(pre_tokenizer={"type": "ByteLevel"}), "the pre_tokenizer 'ByteLevel' is not known here"),
        (
            changed(pre_tokenizer={"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}),
            "the pre_tokenizer Metaspace with '_' and prepend_scheme 'first' is not known here",
        ),
        (
            changed(normalizer={"type": "Replace", "pattern": {"Regex": r"\p{L}+"}, "content": ""}),
            r"the regular expression '\\\\p\{L\}\+' is not known here",
        ),
        (changed(post_processor={"type": "RobertaProcessing"}), "the post_processor 'RobertaProcessing' is not known"),
        (
            changed(post_processor=TEMPLATE | {"single": TEMPLATE["single"][:2]}),
            r"the post_processor makes '\[CLS\]:0 \$A:0' of a single; '\[CLS\]:0 \$A:0 \[SEP\]:0', as an ALBERT's, is",
        ),
        (changed(added_tokens=[LATE]), r"the added token '\(' with single_word is not known here"),
        (changed(added_tokens=[LATE | {"single_word": False, "id": 6}]), r"the added token '\(' has id 6, its piece"),
        (changed(added_tokens=[LATE | {"single_word": False, "id": 900}]), "no piece has the id 200, the next is 900"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(made, said):
    with pytest.raises(AlbertError, match="^t.json(: | is damaged)") as caught:
        JsonTokenizer(made, source="t.json")
    assert caught.match(said) and "\n" not in str(caught.value)


def test_the_golden_strings_are_those_of_the_script(monkeypatch):
    monkeypatch.syspath_prepend(str(GOLDENS))
    sys.modules.pop("awkward_strings", None)
    from awkward_strings import strings

    assert strings() == STRINGS
