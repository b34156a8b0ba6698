"""What every vocabulary has: pieces with ids, a rule by which pieces start words, and the file of its choices."""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from albert_jax.data.text.normalize import Normalization
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.files import read_object, reading, write_atomically, write_json

WordRule = Literal["multilingual", "google"]

CHOICES_FILE = "vocab.json"  # in the directory of a vocabulary: normalisation, word rule, fingerprint
_ADVICE = "not the choices of a vocabulary; restore it from a copy of the directory"
MAX_NARROW_VOCAB = 2**16  # pieces: ids up to here fit uint16


class BaseTokenizer(ABC):
    """V pieces with ids 0 to V - 1. Immutable, picklable, cheap to send to a worker."""

    FILE: str  # that holds the pieces, beside CHOICES_FILE
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    normalization: Normalization
    word_rule: WordRule
    vocab_size: int
    _all_pieces: list[str]

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of all that decides ids and words."""

    @classmethod
    @abstractmethod
    def parse(cls, content: bytes, choices: dict[str, Any], source: str) -> Self:
        """From the `content` of FILE, with what is in `choices` (none: those of the released models); `source` names it
        in errors. Raises AlbertError when it is no such vocabulary."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """From a directory written by `save`, or from a bare file of pieces, which is read as a released one.

        Raises AlbertError when there is no vocabulary, or the pieces are not those that the choices were made for.
        """
        path = Path(path)
        if not path.is_dir():
            return cls.parse(read_content(path), {}, str(path))
        content, choices = read_content(path / cls.FILE), read_choices(path)
        with reading(path / CHOICES_FILE, _ADVICE):
            tokenizer, stored = cls.parse(content, choices, str(path / cls.FILE)), str(choices["fingerprint"])
        # Ids are only numbers: with those of another vocabulary a model runs without an error and learns nothing.
        if stored != tokenizer.fingerprint:
            raise AlbertError(
                f"{path}: {cls.FILE} and {CHOICES_FILE} do not belong together (fingerprint"
                f" {tokenizer.fingerprint[:12]}, stored {stored[:12]}); restore both from one copy"
            )
        return tokenizer

    def save(self, directory: str | Path) -> None:
        """Writes FILE and CHOICES_FILE into `directory`, which is made if missing."""
        write_atomically(Path(directory, self.FILE), self._content())
        # Last, because a directory counts as a vocabulary of ours when it has this file.
        choices = {"format": 1, **self._choices(), "fingerprint": self.fingerprint}
        write_json(Path(directory, CHOICES_FILE), choices)

    @abstractmethod
    def _content(self) -> bytes:
        """What stands in FILE."""

    @abstractmethod
    def _choices(self) -> dict[str, Any]:
        """What stands in CHOICES_FILE, beside its format and the fingerprint."""

    @property
    def bare_mark(self) -> int | None:
        """The id of the piece that marks the start of a word and stands for none of its characters; None without it."""
        return None

    @property
    def dtype(self) -> np.dtype:
        """Of ids: uint16, or uint32 above 65,536 pieces."""
        return np.dtype(np.uint16 if self.vocab_size <= MAX_NARROW_VOCAB else np.uint32)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The pieces of `ids`. Raises AlbertError for an id that is not in the vocabulary."""
        found = [int(i) for i in ids]
        foreign = (i for i in found if not 0 <= i < self.vocab_size)
        refuse(f"piece id {i}: the vocabulary has ids 0..{self.vocab_size - 1}" for i in foreign)
        return [self._all_pieces[i] for i in found]


def read_content(path: Path) -> bytes:
    """The bytes of a vocabulary's file. Raises AlbertError when they cannot be read."""
    with retold(lambda said: f"{path}: cannot read a vocabulary here ({said})", OSError):
        return path.read_bytes()


def read_choices(directory: Path) -> dict[str, Any]:
    """The choices beside a vocabulary. Raises AlbertError when they cannot be read."""
    return read_object(directory / CHOICES_FILE, _ADVICE)


# ---- which SentencePiece pieces start a word, for whole-word masking

SPACE = "▁"  # SentencePiece's mark for a space before the piece
_GOOGLE_PUNCTUATION = frozenset('!"#$%&()*+,-./:;?@[\\]^_`{|}~')
_GOOGLE_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_APOSTROPHES = frozenset("'’ʼ＇")
# First words of the Unicode names of letters of scripts that are written without spaces between words.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "YI")


def word_starts(pieces: Sequence[str], rule: WordRule) -> np.ndarray:
    """bool [V], read-only: True where a piece starts a word.

    "multilingual": a piece continues a word when its first character is a letter, a mark, a digit or an apostrophe with
    no space before it. Everything else starts one, and so does every piece of a script written without spaces.
    "google": `_is_start_piece_sp` of google-research/albert `create_pretraining_data.py`.

    Raises AlbertError when `rule` is neither.
    """
    rules = {"multilingual": _starts_word, "google": _starts_word_google}
    if rule not in rules:
        raise AlbertError(f"word_rule {rule!r}: the rules are {', '.join(rules)}")
    # A rule sees one piece at a time, so it is a table over the vocabulary, computed once.
    starts = np.fromiter(map(rules[rule], pieces), bool, len(pieces))
    starts.setflags(write=False)
    return starts


def _starts_word(piece: str) -> bool:
    if not piece or piece.startswith((SPACE, "<")) or piece in ("[CLS]", "[SEP]", "[MASK]"):
        return True
    first = piece[0]
    if first in _APOSTROPHES:
        return False
    if unicodedata.category(first)[0] not in "LMN":
        return True
    return unicodedata.name(first, "").split(" ", 1)[0].split("-", 1)[0] in _UNSPACED


def _starts_word_google(piece: str) -> bool:
    # Digits, apostrophes and every piece with a letter outside a-z start a word, so that whole-word masking does
    # nothing outside English. Kept as it is for reproductions of the original.
    if piece.startswith((SPACE, "<")) or piece in _GOOGLE_PUNCTUATION:
        return True
    return not all(character in _GOOGLE_PUNCTUATION or character.lower() in _GOOGLE_LETTERS for character in piece)
