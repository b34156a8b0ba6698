"""Which paragraphs are running English text, and the clean form of those that are.

Documentation is full of what is not: menus, option tables, lists of names, code, translations. A paragraph is kept when
it is long enough, ends as a sentence does, is made of words, and has the share of function words ("the", "of", "to")
that English text has and neither lists, code nor other languages have.
"""

import hashlib
import html
import re
from collections.abc import Iterable

from albert_jax.data.text.sentences import split_sentences, word_set

MIN_WORDS = 8
MIN_CHARACTERS = 40
MAX_CHARACTERS = 20_000
# Of all words. English prose has 0.35 to 0.5 of them; German, French and Spanish below 0.08; lists of terms 0.1.
MIN_FUNCTION_WORDS = 0.2
MIN_LETTERS = 0.82  # of the characters other than white space
MAX_CODE_MARKS = 0.015
MAX_REPEATS = 2  # of a sentence of at least MIN_CHARACTERS

_FUNCTION_WORDS = word_set(
    """
    the of and to a in is that for with be this are as it by on not or from you can which will if have has when was an
    at but his he her she they their them him its all no so we our us i my me your who what there into than then one
    were been had do does may must would should could any some such only also more other these those out up upon about
    said how where while after before because between each most very over under thou thy thee ye unto shall
    """
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_CODE_MARKS = re.compile(r"[{}<>|\\=_$@#~^*%]")
_ENDS = re.compile(r"[.!?…]['\"”’»)\]]*$")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\ufeff\ufffd\ue000-\uf8ff]")
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?)\]])(?=\s|$)")
_EMPTY_BRACKETS = re.compile(r"\(\s*[,;]?\s*\)|\[\s*\]")
# A link whose text was made elsewhere leaves one: "See for more information."
_GAP = re.compile(r"\b[Ss]ee(?: also)?(?: for (?:more|details|further|an?|the)\b|\s?[.,;)]| and [.,])")
_RULE = re.compile(r"([-=_*.~#+])\1{3,}")
_PAGE_LINE = re.compile(
    r"copyright (?:©|\(c\)|\d{4})|©|all rights reserved|permission is (?:hereby )?granted|without any warranty"
    r"|merchantability|redistribut|general public licen[sc]e|free documentation licen[sc]e|creative commons"
    r"|this file documents|generated (?:by|on|from)|last (?:updated|modified|changed)",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """`text` on one line, with the traces of markup and of page layout taken out."""
    if "&" in text:
        text = html.unescape(text)
    text = _CONTROL.sub(" ", text).replace("\xa0", " ").replace("\xad", "").replace("¶", " ")
    text = text.replace("``", '"').replace("''", '"')
    text = _RULE.sub(" ", text)
    text = _EMPTY_BRACKETS.sub(" ", text)
    return " ".join(_SPACE_BEFORE.sub(r"\1", text).split())


def is_prose(text: str, min_words: int = MIN_WORDS) -> bool:
    """Whether a cleaned paragraph is running English text."""
    if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS:
        return False
    words = _WORD.findall(text)
    if len(words) < min_words:
        return False
    function_words = sum(word.lower() in _FUNCTION_WORDS for word in words)
    if function_words < MIN_FUNCTION_WORDS * len(words):
        return False
    letters = sum(map(str.isalpha, text))
    if letters < MIN_LETTERS * (len(text) - text.count(" ")) or not 2.8 <= letters / len(words) <= 8:
        return False
    return len(_CODE_MARKS.findall(text)) <= max(1, MAX_CODE_MARKS * len(text)) and not _PAGE_LINE.search(text)


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a cleaned paragraph but those with a gap, and a last one that only announces a list or code."""
    found = [sentence for sentence in split_sentences(text) if not _GAP.search(sentence)]
    if found and not _ENDS.search(found[-1]):
        found.pop()
    return tuple(found)


def english(paragraphs: Iterable[str], min_words: int = MIN_WORDS) -> list[tuple[str, ...]]:
    """The sentences of each paragraph that is English prose."""
    found = []
    for paragraph in paragraphs:
        # First the test that needs no sentences: most of what is read are menus, lists and translations.
        if is_prose(text := clean(paragraph), min_words) and is_prose(" ".join(kept := sentences(text)), min_words):
            found.append(kept)
    return found


class Repeats:
    """Remembers paragraphs and sentences by the hash of their letters: what comes often is no running text."""

    def __init__(self) -> None:
        self._paragraphs: set[bytes] = set()
        self._sentences: dict[bytes, int] = {}

    def new(self, paragraph: tuple[str, ...]) -> tuple[str, ...]:
        """A paragraph's sentences; none if it was met before, and without those met `MAX_REPEATS` times before."""
        key = _letters(" ".join(paragraph))
        if key in self._paragraphs:
            return ()
        self._paragraphs.add(key)
        return tuple(sentence for sentence in paragraph if len(sentence) < MIN_CHARACTERS or self._is_rare(sentence))

    def _is_rare(self, sentence: str) -> bool:
        key = _letters(sentence)
        times = self._sentences[key] = self._sentences.get(key, 0) + 1
        return times <= MAX_REPEATS


def _letters(text: str) -> bytes:
    # Eight bytes instead of the text: a few million sentences are read.
    letters = _NOT_LETTERS.sub("", text.lower())
    return hashlib.blake2b(letters.encode("utf-8", "replace"), digest_size=8).digest()
