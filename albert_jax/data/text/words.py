"""Which pieces start a word: the rule by which whole words are masked.

A rule sees one piece at a time, so it is a table over the vocabulary, computed once. Two rules are offered;
the name of the one in use is stored with the vocabulary and belongs to its fingerprint.
"""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from albert_jax.errors import AlbertError

WordRule = Literal["multilingual", "google"]

_SPACE = "▁"  # SentencePiece's mark for a space before the piece
_GOOGLE_PUNCTUATION = frozenset('!"#$%&()*+,-./:;?@[\\]^_`{|}~')
_GOOGLE_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_APOSTROPHES = frozenset("'’ʼ＇")
# First words of the Unicode names of letters of scripts that are written without spaces between words.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "YI")


def word_starts(pieces: Sequence[str], rule: WordRule) -> np.ndarray:
    """bool [V]: True where a piece starts a word.

    "multilingual" (default): a piece continues a word when its first character is a letter, a mark, a digit
    or an apostrophe with no space before it. Everything else starts one (a space before it, punctuation,
    symbols, the special pieces), and so does every piece of a script written without spaces.
    "google": `_is_start_piece_sp` of google-research/albert `create_pretraining_data.py`, under which digits,
    apostrophes and every piece with a letter outside a-z start a word, so that whole-word masking does
    nothing outside English.

    Raises:
        AlbertError: `rule` is neither.
    """
    rules: dict[str, Callable[[str], bool]] = {"multilingual": _starts_word, "google": _starts_word_google}
    if rule not in rules:
        raise AlbertError(f"word_rule {rule!r}: the rules are {', '.join(get_args(WordRule))}")
    return np.fromiter((rules[rule](piece) for piece in pieces), bool, len(pieces))


def _starts_word(piece: str) -> bool:
    if piece.startswith((_SPACE, "<")) or not piece:
        return True
    if piece in ("[CLS]", "[SEP]", "[MASK]"):
        return True
    first = piece[0]
    if first in _APOSTROPHES:
        return False
    if unicodedata.category(first)[0] not in "LMN":
        return True
    return unicodedata.name(first, "").split(" ", 1)[0].split("-", 1)[0] in _UNSPACED


def _starts_word_google(piece: str) -> bool:
    if piece.startswith((_SPACE, "<")):
        return True
    return not all(character in _GOOGLE_PUNCTUATION or character.lower() in _GOOGLE_LETTERS for character in piece) or (
        piece in _GOOGLE_PUNCTUATION
    )
