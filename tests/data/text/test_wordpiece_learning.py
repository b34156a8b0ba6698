"""A WordPiece vocabulary learned: by hand, beside a plain recount after every merge, its characters, its file."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from albert_jax.data.text.tokenizers import load
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.data.text.wordpiece_learning import count_words, learn
from albert_jax.errors import AlbertError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def recounted(words: dict[str, int], size: int) -> list[str]:
    """The same rule without any bookkeeping: count all pairs, merge the first of the most frequent, begin again."""
    characters = sorted({character for word in words for character in word})
    pieces = [*characters, *("##" + character for character in characters)]
    cut = {word: [word[0], *("##" + character for character in word[1:])] for word in words}
    while len(pieces) < size:
        pairs = Counter()
        for word, parts in cut.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        order = {piece: number for number, piece in enumerate(pieces)}
        best = min(pairs, key=lambda pair: (-pairs[pair], *map(order.get, pair)), default=None)
        if best is None or pairs[best] < 2:
            break
        merged = best[0] + best[1][2:]
        pieces += [merged] * (merged not in pieces)
        for word, parts in cut.items():
            position, found = 0, []
            while position < len(parts):
                hit = tuple(parts[position : position + 2]) == best
                found.append(merged if hit else parts[position])
                position += 1 + hit
            cut[word] = found
    return pieces


def test_by_hand() -> None:
    first = ["e", "l", "o", "r", "w", "##e", "##l", "##o", "##r", "##w"]
    assert learn({"low": 5, "lower": 3}, 12) == [*first, "lo", "low"]
    # (low, ##e) and (##e, ##r) occur three times each; the piece with the lower number goes first.
    assert learn({"low": 5, "lower": 3}, 99) == [*first, "lo", "low", "##er", "lower"]
    assert learn({"lo": 1, "wo": 1}, 99) == ["l", "o", "w", "##l", "##o", "##w"]  # nothing occurs twice


def test_the_merges_are_those_of_a_plain_recount() -> None:
    rng = random.Random(0)
    for case in range(60):
        letters = "abcd"[: rng.randint(1, 4)]
        drawn = Counter("".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 40)))
        words = {word: count * rng.randint(1, 3) for word, count in drawn.items()}
        size = rng.randint(8, 60)
        expected = recounted(words, size)
        assert learn(words, size) == expected, case
        assert learn(dict(reversed(words.items())), size) == expected, case


# ---- from text


TEXT = ["今天天气很好, models of the Modelling 12 models", "好 the tree, the 中文 Café 5中"] * 3


def test_the_layout_is_berts_and_no_character_is_lost() -> None:
    tokenizer = WordPieceTokenizer.train(TEXT, 60)
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    assert tokenizer.vocab_size == 60 and pieces[:5] == SPECIALS
    singles = [piece for piece in pieces[5:] if len(piece.removeprefix("##")) == 1]
    assert pieces[5 : 5 + len(singles)] == singles  # characters come first, by code point, then parts of words
    assert set("今天气很好中文,125acdefghilmnorst") == {piece for piece in singles if not piece.startswith("##")}
    # Both forms, but of what the rules always set apart.
    assert {piece[2:] for piece in singles if piece.startswith("##")} == set("125acdefghilmnorst")
    assert tokenizer.tokenize("今天 models 中1 好, 1s") == ["今", "天", "models", "中", "1", "好", ",", "1", "##s"]
    assert tokenizer.tokenize("CAFÉ 猫") == ["ca", "##f", "##e", "[UNK]"]


def test_case_is_kept_where_asked() -> None:
    tokenizer = WordPieceTokenizer.train(["が か Über über"] * 2, 60, lower=False)
    assert tokenizer.tokenize("が か Über ubeR") == ["が", "か", "Über", "[UNK]"]
    assert WordPieceTokenizer.train(["が か Über"] * 2, 60).tokenize("が Über") == ["か", "uber"]


def test_rare_characters_are_left_out_by_the_coverage() -> None:
    texts = ["ab ab", "cb"] + ["ab"] * 96 + ["魑 xb"]
    tokenizer = WordPieceTokenizer.train(texts, 40, character_coverage=0.98)
    assert tokenizer.pieces(range(5, tokenizer.vocab_size)) == ["a", "b", "##a", "##b", "ab"]
    whole = WordPieceTokenizer.train(texts, 40, character_coverage=1)
    assert set("abcx魑") < set(whole.pieces(range(whole.vocab_size)))


def test_words_are_counted_once_a_token() -> None:
    calls = []

    def normalize(token: str) -> str:
        calls.append(token)
        return token.replace(",", " , ").strip()

    assert count_words(["a b, a", "", "b, c"], normalize) == {"a": 2, "b": 2, ",": 2, "c": 1}
    assert sorted(calls) == ["", "a", "b,", "c"]


def test_saved_and_loaded(tmp_path) -> None:
    tokenizer = WordPieceTokenizer.train(TEXT, 70, lower=False)
    tokenizer.save(tmp_path / "vocab")
    assert load(tmp_path / "vocab").fingerprint == tokenizer.fingerprint
    assert load(tmp_path / "vocab" / "vocab.txt", lower=False).fingerprint == tokenizer.fingerprint
    assert WordPieceTokenizer.train(iter(TEXT), 70, lower=False).fingerprint == tokenizer.fingerprint


def test_bad_sizes_and_no_text() -> None:
    with pytest.raises(AlbertError, match="no text to train a vocabulary on"):
        WordPieceTokenizer.train(["", " "], 70)
    with pytest.raises(AlbertError, match="vocab_size 40 is too small .* need 49 pieces; use --vocab-size 49 or more"):
        WordPieceTokenizer.train(TEXT, 40)
    assert WordPieceTokenizer.train(TEXT, 49).vocab_size == 49
