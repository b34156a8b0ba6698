"""The WordPiece tokenizer of the Chinese ALBERT models (and of BERT): text to piece ids by `vocab.txt`.

    WordPieceTokenizer.load("vocab.txt").encode("今天 ALBERT 12.5")

The rules are those of `BasicTokenizer` and `WordpieceTokenizer` in google-research/albert `tokenization.py`: control
characters dropped, every CJK character a word of its own, lower case and no accents (NFD) if asked for, punctuation
set apart, then the longest piece that fits, from the left; pieces that go on with a word begin with "##". A word
that cannot be cut so is one [UNK].
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.words import WordRule
from albert_jax.errors import AlbertError

VOCABULARY_FILE = "vocab.txt"
CHOICES_FILE = "vocab.json"
KIND = "wordpiece"
MAX_WORD = 200  # characters; a longer word is one [UNK]. Hugging Face: 100
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CACHED_WORDS = 1 << 17
# Blocks of ideographs, as the original lists them: kana and Hangul are not among them.
_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieceTokenizer:
    """Pieces and ids of one vocabulary of V pieces; the interface of `albert_jax.data.text.sentencepiece.Tokenizer`."""

    word_rule: WordRule = "google"  # the only one: "##" tells what goes on with a word

    def __init__(self, pieces: Sequence[str], lower: bool = True, source: str = "vocabulary"):
        """`pieces` in the order of their ids; `lower` also drops accents; `source` names the vocabulary in errors.

        Raises:
            AlbertError: a piece twice, or one of [PAD] [UNK] [CLS] [SEP] [MASK] missing.
        """
        self._all_pieces = list(pieces)
        self._ids = {piece: number for number, piece in enumerate(self._all_pieces)}
        if len(self._ids) < len(self._all_pieces):
            twice = next(p for number, p in enumerate(self._all_pieces) if self._ids[p] != number)
            raise AlbertError(f"{source}: the piece {twice!r} is there twice; every line needs a piece of its own")
        missing = [name for name in _SPECIALS if name not in self._ids]
        if missing:
            raise AlbertError(f"{source}: no WordPiece vocabulary, it lacks {' '.join(missing)}; give a vocab.txt")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self._ids[name] for name in _SPECIALS)
        self.vocab_size = len(self._all_pieces)
        self.normalization = Normalization(lower, keep_accents=not lower)
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)
        self._longest = max(len(piece) for piece in self._all_pieces)
        self._cleaning, self._parting = _Cleaning(), _Parting(lower)
        self._words: dict[str, tuple[int, ...]] = {}

    # ------------------------------------------------------------------------------------------ made, kept

    @classmethod
    def load(cls, path: str | Path, lower: bool = True) -> "WordPieceTokenizer":
        """From a `vocab.txt` (one piece a line, under any name), or from a directory that `save` wrote.

        Blanks about a piece are dropped, a blank line is the piece " ", and a piece that came before takes no id, all
        as in the original. `lower` is for a bare file; a directory's choices say it.

        Raises:
            AlbertError: nothing there, not UTF-8, no WordPiece vocabulary, or one that its choices were not made for.
        """
        path = Path(path)
        file = path / VOCABULARY_FILE if path.is_dir() else path
        choices_path = path / CHOICES_FILE
        try:
            text = file.read_bytes().decode("utf-8")
            choices = json.loads(choices_path.read_bytes()) if path.is_dir() and choices_path.exists() else {}
            lower, fingerprint = choices.get("lower", lower), choices.get("fingerprint")
        except OSError as error:
            raise AlbertError(f"{file}: cannot read a vocabulary here ({error.strerror or error})") from error
        except UnicodeDecodeError as error:
            raise AlbertError(f"{file}: not UTF-8 at byte {error.start}; give a vocab.txt") from error
        except (ValueError, AttributeError) as error:
            raise AlbertError(f"{choices_path}: not the choices of a vocabulary: {error}") from error
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        pieces = dict.fromkeys((line.split() or [" "])[0] for line in lines)
        tokenizer = cls(list(pieces), lower, source=str(file))
        if fingerprint not in (None, tokenizer.fingerprint):
            raise AlbertError(
                f"{path}: {VOCABULARY_FILE} and {CHOICES_FILE} do not belong together (fingerprint"
                f" {tokenizer.fingerprint[:12]}, stored {str(fingerprint)[:12]}); restore both from one copy"
            )
        return tokenizer

    def save(self, directory: str | Path) -> None:
        """Writes `vocab.txt` and `vocab.json` into `directory`, which is made if missing."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{piece.strip()}\n" for piece in self._all_pieces)
        (path / VOCABULARY_FILE).write_bytes(lines.encode())
        choices = {
            "format": 1,
            "kind": KIND,
            "vocab_size": self.vocab_size,
            "lower": self.normalization.lower,
            "fingerprint": self.fingerprint,
        }
        (path / CHOICES_FILE).write_text(json.dumps(choices, indent=2) + "\n", encoding="utf-8")

    def __reduce__(self) -> tuple[type["WordPieceTokenizer"], tuple[list[str], bool]]:
        return type(self), (self._all_pieces, self.normalization.lower)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of all that decides ids and words."""
        choices = json.dumps([KIND, self.normalization.lower, self._all_pieces])
        return hashlib.blake2b(choices.encode(), digest_size=16).hexdigest()

    # ------------------------------------------------------------------------------------------ text to ids

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
        """Piece ids of `text`, without [CLS] and [SEP] and never one of their kind, whatever the text says."""
        return [i for word in self.normalize(text).split(" ") if word for i in self._word(word)]

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts one after the other, uint16 (uint32 above 65,536 pieces) [N], and how many belong to
        each text, int32 [len(texts)]."""
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
        place = 0
        for word in normalized.split():
            begin = place = normalized.index(word, place)
            found = self._word(word)
            for piece_id in found:
                piece = self._all_pieces[piece_id]
                width = len(word) if piece_id == self.unk_id else len(piece) - 2 * (place > begin)
                ids.append(piece_id)
                offsets.append((spans[place][0], spans[place + width - 1][1]))
                place += width
            place = begin + len(word)
        return ids, offsets

    def _with_spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The text with its words apart (not yet single spaces) and the characters of `text` under each of its own."""
        characters: list[str] = []
        spans: list[tuple[int, int]] = []
        for place, character in enumerate(text):
            for part in character.translate(self._cleaning):
                characters.append(part)
                spans.append((place, place + 1))
        if self.normalization.lower:
            cleaned = "".join(characters)
            spans = [span for character, span in zip(cleaned, spans, strict=True) for _ in character.lower()]
            lowered = cleaned.lower()  # as a whole, because a final sigma depends on its neighbours
            characters, before, spans = [], spans, []
            starts = [
                place
                for place, character in enumerate(lowered)
                if not place or not unicodedata.combining(unicodedata.normalize("NFD", character)[0])
            ]
            for start, end in pairwise([*starts, len(lowered)]):  # runs that NFD may reorder
                run = unicodedata.normalize("NFD", lowered[start:end])
                characters += run
                spans += [(before[start][0], before[end - 1][1])] * len(run)
        parted = [character.translate(self._parting) for character in characters]
        return "".join(parted), [span for part, span in zip(parted, spans, strict=True) for _ in part]

    def _word(self, word: str) -> tuple[int, ...]:
        """The ids of one word, by greedy longest match."""
        known = self._words.get(word)
        if known is not None:
            return known
        found: list[int] = []
        start, size = 0, len(word)
        while start < size <= MAX_WORD:
            prefix = "##" if start else ""
            for end in range(min(size, start + self._longest), start, -1):
                number = self._ids.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                break
            found.append(number)  # type: ignore[arg-type]
            start = end
        ids = tuple(found) if start == size else (self.unk_id,)
        if len(self._words) >= _CACHED_WORDS:
            self._words.clear()
        self._words[word] = ids
        return ids

    # ------------------------------------------------------------------------------------------ ids to text

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The pieces of `ids`. Raises AlbertError for an id that is not in the vocabulary."""
        found = [int(i) for i in ids]
        for i in found:
            if not 0 <= i < self.vocab_size:
                raise AlbertError(f"piece id {i}: the vocabulary has ids 0..{self.vocab_size - 1}")
        return [self._all_pieces[i] for i in found]

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids`, a space between words; special pieces as they are called."""
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


class _Cleaning(dict):
    """For `str.translate`: drops control characters, makes blanks spaces, sets CJK characters apart."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        if character in "\t\n\r" or unicodedata.category(character) == "Zs":
            result = " "
        elif point in (0, 0xFFFD) or unicodedata.category(character) in ("Cc", "Cf"):
            result = ""
        elif any(first <= point <= last for first, last in _CJK):
            result = f" {character} "
        else:
            result = character
        self[point] = result
        return result


class _Parting(dict):
    """For `str.translate`: drops accents if asked to and sets punctuation apart, all ASCII symbols included."""

    def __init__(self, drop_accents: bool) -> None:
        super().__init__()
        self._drop_accents = drop_accents

    def __missing__(self, point: int) -> str:
        character = chr(point)
        category = unicodedata.category(character)
        if self._drop_accents and category == "Mn":
            result = ""
        elif category.startswith("P") or (33 <= point <= 126 and not character.isalnum()):
            result = f" {character} "
        else:
            result = character
        self[point] = result
        return result
