"""The WordPiece tokenizer of the Chinese ALBERT models (and of BERT): text to piece ids by `vocab.txt`.

    WordPieceTokenizer.load("vocab.txt").encode("今天 ALBERT 12.5")
    WordPieceTokenizer.train(sentences, vocab_size=8000).save("vocab")

The rules are those of `BasicTokenizer` and `WordpieceTokenizer` in google-research/albert `tokenization.py`: control
characters dropped, every CJK character a word of its own, lower case and no accents (NFD) if asked for, punctuation
set apart, then the longest piece that fits, from the left; pieces that go on with a word begin with "##". A word
that cannot be cut so is one [UNK].
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, pairwise
from typing import Any

import numpy as np

from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.sentencepiece import CHARACTER_COVERAGE, SAMPLE_BYTES, sample
from albert_jax.data.text.vocabulary import BaseTokenizer, WordRule
from albert_jax.data.text.wordpiece_learning import INSIDE, count_words, learn
from albert_jax.errors import AlbertError, refuse

# By hand, because Hugging Face's WordPiece gives other pieces: it makes a special piece of "[MASK]" in the text, drops
# characters of private use, and gives up on words of more than 100 characters (docs/tokenizer.md). A model must read
# text in the pieces that it was trained on.

KIND = "wordpiece"
MAX_WORD = 200  # characters; a longer word is one [UNK]. Hugging Face: 100
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # of a learned vocabulary the first ids
_CACHED_WORDS = 2**17
# Blocks of ideographs, as the original lists them: kana and Hangul are not among them.
_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieceTokenizer(BaseTokenizer):
    """Pieces and ids of a WordPiece vocabulary of V pieces."""

    FILE = "vocab.txt"
    word_rule: WordRule = "google"  # the only one: "##" marks what goes on with a word

    def __init__(self, pieces: Sequence[str], lower: bool = True, source: str = "vocabulary"):
        """`pieces` in the order of their ids; `lower` also drops accents; `source` names the vocabulary in errors.

        Raises AlbertError for a piece that occurs twice, and when one of [PAD] [UNK] [CLS] [SEP] [MASK] is missing.
        """
        self._all_pieces = list(pieces)
        self._ids = {piece: number for number, piece in enumerate(self._all_pieces)}
        refuse(_flaws(source, self._all_pieces, self._ids))
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self._ids[name] for name in SPECIALS)
        self.vocab_size = len(self._all_pieces)
        self.normalization = Normalization(lower, keep_accents=not lower)
        self._longest = max(len(piece) for piece in self._all_pieces)
        self._cleaning, self._parting = _Table(_cleaned), _Table(partial(_parted, drop_accents=lower))
        # Few words make up most of a text, and the greedy search below is the slow part.
        self._words: dict[str, tuple[int, ...]] = {}

    # ---- made and kept

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        lower: bool = True,
        max_bytes: int = SAMPLE_BYTES,
        character_coverage: float = CHARACTER_COVERAGE,
    ) -> "WordPieceTokenizer":
        """A vocabulary of at most `vocab_size` pieces learned from at most `max_bytes` of `texts`, repeatable to the
        byte: the special pieces, the characters, then frequent parts of words. Text in which fewer parts occur twice
        gives fewer pieces.

        Raises AlbertError when there is no text, or its characters alone need more pieces.
        """
        rules = cls(SPECIALS, lower)
        words = count_words(sample(texts, max_bytes), rules.normalize)
        words = Counter({word: count for word, count in words.items() if len(word) <= MAX_WORD})

        def stands_alone(character: str) -> bool:
            return len(rules.normalize(f"a{character}").split(" ")) > 1

        learned = learn(words, vocab_size - len(SPECIALS), character_coverage, stands_alone)
        refuse(_flaws_of_size(vocab_size, len(learned)))
        return cls([*SPECIALS, *learned], lower)

    @classmethod
    def parse(cls, content: bytes, choices: dict[str, Any], source: str) -> "WordPieceTokenizer":
        """From the bytes of a `vocab.txt`, one piece a line; see `BaseTokenizer.parse`."""
        try:
            lines = content.decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise AlbertError(f"{source}: not UTF-8 at byte {error.start}; give a vocab.txt") from error
        if not lines[-1]:
            lines.pop()
        # As in the original: blanks around a piece are dropped, a blank line is the piece " ", and a piece that came
        # before takes no id.
        pieces = dict.fromkeys((line.split() or [" "])[0] for line in lines)
        return cls(list(pieces), choices.get("lower", True), source)

    def _content(self) -> bytes:
        return "".join(f"{piece.strip()}\n" for piece in self._all_pieces).encode()

    def _choices(self) -> dict[str, Any]:
        return {"kind": KIND, "vocab_size": self.vocab_size, "lower": self.normalization.lower}

    def __reduce__(self) -> tuple[type["WordPieceTokenizer"], tuple[list[str], bool]]:
        return type(self), (self._all_pieces, self.normalization.lower)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the pieces and the case."""
        choices = json.dumps([KIND, self.normalization.lower, self._all_pieces])
        return hashlib.blake2b(choices.encode(), digest_size=16).hexdigest()

    # ---- text to ids

    def normalize(self, text: str) -> str:
        """The words that pieces are cut from, a space between them."""
        text = text.translate(self._cleaning)
        if self.normalization.lower:
            text = unicodedata.normalize("NFD", text.lower())
        return " ".join(text.translate(self._parting).split())

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text` as the original's `FullTokenizer.tokenize` gives them."""
        return self.pieces(self.encode(text))

    def encode(self, text: str) -> list[int]:
        """Piece ids of `text`, without [CLS] and [SEP]; never a special one, whatever the text says."""
        return [i for word in self.normalize(text).split(" ") if word for i in self._word(word)]

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts one after the other, `dtype` [N], and how many each text has, int32 [len(texts)]."""
        rows = [self.encode(text) for text in texts]
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        return np.fromiter(chain.from_iterable(rows), self.dtype, int(lengths.sum())), lengths

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode(text)` and, for each id, the characters [start, end) of the caller's own `text` it stands for.

        The span of an accented letter covers the marks that were dropped. An [UNK] spans its word.
        """
        normalized, spans = self._with_spans(text)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        position = 0
        for word in normalized.split():
            begin = position = normalized.index(word, position)
            for piece_id in self._word(word):
                piece = self._all_pieces[piece_id]
                # Pieces after the first carry a "##" that is not in the text.
                width = len(word) if piece_id == self.unk_id else len(piece) - 2 * (position > begin)
                ids.append(piece_id)
                offsets.append((spans[position][0], spans[position + width - 1][1]))
                position += width
            position = begin + len(word)
        return ids, offsets

    def _with_spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The text with its words apart (not yet single spaces) and the characters of `text` under each of its own."""
        characters: list[str] = []
        spans: list[tuple[int, int]] = []
        for position, character in enumerate(text):
            for part in character.translate(self._cleaning):
                characters.append(part)
                spans.append((position, position + 1))
        if self.normalization.lower:
            cleaned = "".join(characters)
            spans = [span for character, span in zip(cleaned, spans, strict=True) for _ in character.lower()]
            lowered = cleaned.lower()  # as a whole, because a final sigma depends on its neighbours
            characters, before, spans = [], spans, []
            starts = [
                position
                for position, character in enumerate(lowered)
                if not position or not unicodedata.combining(unicodedata.normalize("NFD", character)[0])
            ]
            # NFD sorts the marks within a run, so each of its characters spans the whole of it.
            for start, end in pairwise([*starts, len(lowered)]):
                run = unicodedata.normalize("NFD", lowered[start:end])
                characters += run
                spans += [(before[start][0], before[end - 1][1])] * len(run)
        parted = [character.translate(self._parting) for character in characters]
        return "".join(parted), [span for part, span in zip(parted, spans, strict=True) for _ in part]

    def _word(self, word: str) -> tuple[int, ...]:
        """The ids of one word, by greedy longest match."""
        if (known := self._words.get(word)) is not None:
            return known
        found: list[int] = []
        start, size = 0, len(word)
        while start < size <= MAX_WORD:
            prefix = INSIDE if start else ""
            for end in range(min(size, start + self._longest), start, -1):
                number = self._ids.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                break
            found.append(number)  # type: ignore[arg-type]
            start = end
        ids = tuple(found) if start == size else (self.unk_id,)
        # Cleared, not pruned: what is frequent is back within a few sentences.
        if len(self._words) >= _CACHED_WORDS:
            self._words.clear()
        self._words[word] = ids
        return ids

    # ---- ids to text

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids`, a space between words; special pieces by their names."""
        return " ".join(self.pieces(ids)).replace(" ##", "")

    @cached_property
    def word_starts(self) -> np.ndarray:
        """bool [V]: True where a piece starts a word: all but those with "##"."""
        starts = np.array([not piece.startswith("##") for piece in self._all_pieces])
        starts.setflags(write=False)
        return starts

    @property
    def google_word_starts(self) -> np.ndarray:
        """The same: the original has this one rule for WordPiece vocabularies."""
        return self.word_starts


def _flaws_of_size(size: int, learned: int) -> Iterator[str]:
    if not learned:
        yield "no text to train a vocabulary on: the corpus is empty"
    needed = learned + len(SPECIALS)
    if needed > size:
        yield (
            f"vocab_size {size} is too small for this text: its characters alone need {needed} pieces; use "
            f"--vocab-size {needed} or more, or a lower character coverage"
        )


def _flaws(source: str, pieces: list[str], ids: dict[str, int]) -> Iterator[str]:
    if len(ids) < len(pieces):
        twice = next(piece for number, piece in enumerate(pieces) if ids[piece] != number)
        yield f"{source}: the piece {twice!r} is there twice; every line needs a piece of its own"
    missing = [name for name in SPECIALS if name not in ids]
    if missing:
        yield f"{source}: no WordPiece vocabulary, it lacks {' '.join(missing)}; give a vocab.txt"


class _Table(dict[int, str]):
    """For `str.translate`: what stands for each character, by a rule that is applied once to each."""

    def __init__(self, rule: Callable[[str], str]):
        super().__init__()
        self._rule = rule

    def __missing__(self, point: int) -> str:
        self[point] = result = self._rule(chr(point))
        return result


def _cleaned(character: str) -> str:
    """Control characters dropped, blanks made spaces, CJK characters set apart."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if character in "\0\ufffd" or category in ("Cc", "Cf"):
        return ""
    return f" {character} " if any(first <= ord(character) <= last for first, last in _CJK) else character


def _parted(character: str, drop_accents: bool) -> str:
    """Accents dropped if asked for; punctuation set apart, all ASCII symbols included."""
    category = unicodedata.category(character)
    if drop_accents and category == "Mn":
        return ""
    symbol = category.startswith("P") or (33 <= ord(character) <= 126 and not character.isalnum())
    return f" {character} " if symbol else character
