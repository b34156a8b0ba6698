"""Pieces and ids of awkward text against the original's own output; the WordPiece tokenizer; which file is what."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import load
from albert_jax.data.text.wordpiece import MAX_WORD, WordPieceTokenizer
from albert_jax.errors import AlbertError

GOLDENS = Path(__file__).parents[2] / "goldens"
HERE = GOLDENS / "tokenizer"
GOLDEN = json.loads((HERE / "golden.json").read_text())
VOCABULARIES = [(file, case) for file in ("spiece.model", "lower.model", "vocab.txt") for case in ("uncased", "cased")]


def test_the_golden_strings_are_those_of_the_script(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(GOLDENS))
    sys.modules.pop("awkward_strings", None)
    from awkward_strings import strings

    assert GOLDEN["strings"] == strings() and len(set(GOLDEN["strings"])) >= 500


@pytest.mark.parametrize(("file", "case"), VOCABULARIES)
def test_pieces_and_ids_are_the_originals(file: str, case: str) -> None:
    tokenizer = load(HERE / file, lower=case == "uncased")
    named = 0
    for text, (pieces, ids) in zip(GOLDEN["strings"], GOLDEN[f"{file} {case}"], strict=True):
        assert tokenizer.tokenize(text) == pieces, text
        if tokenizer.encode(text) != ids:
            # The original goes by name: letters unknown to the vocabulary that spell a special piece become it.
            special = [piece for piece, i in zip(pieces, ids, strict=True) if i in (0, 2, 3, 4)]
            assert special and all(piece in text for piece in special), text
            ids = [tokenizer.unk_id if i in (0, 2, 3, 4) else i for i in ids]
            named += 1
        assert tokenizer.encode(text) == ids, text
    assert named == (35 if (file, case) == ("lower.model", "cased") else 0)


@pytest.mark.parametrize(("file", "case"), VOCABULARIES)
def test_batch_and_offsets_of_awkward_text(file: str, case: str) -> None:
    tokenizer = load(HERE / file, lower=case == "uncased")
    texts = GOLDEN["strings"]
    ids, lengths = tokenizer.encode_batch(texts)
    assert lengths.dtype == np.int32 and ids.dtype == np.uint16
    rows = [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]
    for text, row in zip(texts, rows, strict=True):
        found, offsets = tokenizer.encode_with_offsets(text)
        assert found == row == tokenizer.encode(text)
        starts = [start for start, _ in offsets]
        assert starts == sorted(starts) and all(0 <= start <= end <= len(text) for start, end in offsets)
    assert tokenizer.encode_batch([])[0].shape == (0,)


def test_a_number_before_a_comma_keeps_the_mark_of_a_word() -> None:
    tokenizer = load(HERE / "spiece.model")
    assert tokenizer.tokenize("x10,y") == ["▁x", "▁10", ",", "y"]  # Hugging Face: ▁x 10 , y
    assert tokenizer.pieces(tokenizer.encode("x10,y")) == ["▁x", "▁10", ",", "y"]


# ---- WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "##a", "天", "气", ",", "cafe", "##12"]


def test_wordpiece_by_hand() -> None:
    tokenizer = WordPieceTokenizer(PIECES)
    assert tokenizer.tokenize("UNaffable,天气") == ["un", "##aff", "##able", ",", "天", "气"]
    assert tokenizer.tokenize("Cafe\u0301 un12 unx") == ["cafe", "un", "##12", "[UNK]"]
    assert tokenizer.encode("una\x00\u200b") == [5, 8]
    ids, offsets = tokenizer.encode_with_offsets(" Cafe\u0301, 天 unaffable")
    assert tokenizer.pieces(ids) == ["cafe", ",", "天", "un", "##aff", "##able"]
    assert offsets == [(1, 6), (6, 7), (8, 9), (10, 12), (12, 15), (15, 19)]
    assert tokenizer.decode([2, 5, 6, 7, 11, 3]) == "[CLS] unaffable , [SEP]"
    assert tokenizer.word_starts.tolist() == [not piece.startswith("##") for piece in PIECES]
    with pytest.raises(AlbertError, match=r"piece id 14: the vocabulary has ids 0\.\.13"):
        tokenizer.pieces([14])


def test_every_ideograph_is_a_word() -> None:
    tokenizer = WordPieceTokenizer(PIECES, lower=False)
    inside = "㐀\u4dbf一\u9fff\uf900\ufaff\U00020000\U0002a6df\U0002a700\U0002b73f\U0002b740\U0002b820\U0002ceaf"
    for character in inside + "\U0002f800\U0002fa1f":
        assert tokenizer.normalize(f"a{character}b") == f"a {character} b"
    for character in "\u33ff\u4dc0\ua000\ufb00\U0002a6e0\U0002ceb0\U0002fa20ひカ한々":
        assert tokenizer.normalize(f"a{character}b") == f"a{character}b"


def test_wordpiece_gives_up_on_long_words() -> None:
    tokenizer = WordPieceTokenizer(PIECES)
    assert tokenizer.encode("un" + "a" * (MAX_WORD - 2)) == [5] + [8] * (MAX_WORD - 2)
    assert tokenizer.encode("un" + "a" * (MAX_WORD - 1)) == [1]


def test_wordpiece_case_goes_with_accents() -> None:
    assert WordPieceTokenizer(PIECES, lower=False).tokenize("cafe Cafe café") == ["cafe", "[UNK]", "[UNK]"]


def test_special_pieces_never_come_from_wordpiece_text() -> None:
    for lower in (True, False):
        tokenizer = load(HERE / "vocab.txt", lower)
        for text in GOLDEN["strings"]:
            assert not set(tokenizer.encode(text)) & {tokenizer.pad_id, tokenizer.cls_id, tokenizer.mask_id}


def test_wordpiece_save_load_and_pickle(tmp_path) -> None:
    for lower in (True, False):
        tokenizer = load(HERE / "vocab.txt", lower)
        tokenizer.save(tmp_path / str(lower))
        for other in (load(tmp_path / str(lower)), pickle.loads(pickle.dumps(tokenizer))):
            assert isinstance(other, WordPieceTokenizer)
            assert other.fingerprint == tokenizer.fingerprint
            assert other.encode("Das 天 Café") == tokenizer.encode("Das 天 Café")
    assert load(tmp_path / "True").fingerprint != load(tmp_path / "False").fingerprint


def test_lines_of_a_vocabulary_are_read_as_the_original_reads_them(tmp_path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join([*PIECES[:5], " a ", "b\r", "", "a", "c d", "e\u2028"]).encode() + b"\n")
    assert load(path).pieces(range(10)) == [*PIECES[:5], "a", "b", " ", "c", "e"]


# ---- which file is what


def test_load_picks_by_file(tmp_path) -> None:
    spiece, words = (HERE / "spiece.model").read_bytes(), (HERE / "vocab.txt").read_bytes()
    for name in ("spiece.model", "30k-clean.model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(spiece)
        assert load(tmp_path / name).fingerprint == Tokenizer(spiece).fingerprint
    for name in ("vocab.txt", "vocab_chinese.txt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(words)
        assert isinstance(load(tmp_path / name), WordPieceTokenizer)
    assert load(HERE / "spiece.model", lower=False).normalization == Normalization(lower=False)
    Tokenizer(spiece, Normalization(lower=False)).save(tmp_path / "ours")
    assert load(tmp_path / "ours").normalization == Normalization(lower=False)


def test_load_tells_what_is_wrong(tmp_path) -> None:
    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    (tmp_path / "empty").mkdir()
    with pytest.raises(AlbertError, match=r"empty/vocab\.model: cannot read a vocabulary here"):
        load(tmp_path / "empty")
    with pytest.raises(AlbertError, match=r"nowhere\.txt: cannot read a vocabulary here"):
        load(tmp_path / "nowhere.txt")
    with pytest.raises(AlbertError, match=r"latin\.txt: not UTF-8 at byte 3"):
        load(written("latin.txt", "caf\xe9\n".encode("latin-1")))
    with pytest.raises(AlbertError, match=r"other\.txt: no WordPiece vocabulary, it lacks \[PAD\] \[MASK\]"):
        load(written("other.txt", b"[UNK]\n[CLS]\n[SEP]\n"))
    with pytest.raises(AlbertError, match=r"twice\.txt|is there twice"):
        WordPieceTokenizer([*PIECES, "un"], source="twice.txt")
    with pytest.raises(AlbertError, match=r"noise\.model: not a SentencePiece model"):
        load(written("noise.model", b"noise"))
    with pytest.raises(AlbertError, match=r"broken/vocab\.json is damaged \(.*\); not the choices of a vocabulary"):
        load(written("broken/vocab.json", b"{").parent)
    load(HERE / "vocab.txt").save(tmp_path / "mixed")
    (tmp_path / "mixed/vocab.txt").write_text("\n".join(PIECES))
    with pytest.raises(AlbertError, match=r"mixed: vocab\.txt and vocab\.json do not belong together"):
        load(tmp_path / "mixed")
