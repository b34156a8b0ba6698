"""Scripts that are written without spaces between words, and what stands for a word in them: the one place that knows.

Where a character is close to a word (Han, Hiragana, Katakana), each character is a word of its own, in tagging and in
raw text. Thai, Lao, Khmer and Burmese need a dictionary: `segment` asks a package for it where one is installed.
"""

import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

Ranges = tuple[tuple[int, int], ...]

# By ranges of code points, after Unicode's Scripts.txt, because Python knows categories and names but no scripts.
# Marks that Japanese shares between its scripts (such as the long-vowel mark U+30FC) are counted in. Hangul is not:
# Korean has spaces.
HAN: Ranges = (
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303C), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x16FF0, 0x16FF6), (0x20000, 0x3FFFD),
)  # fmt: skip
HIRAGANA: Ranges = ((0x3041, 0x3096), (0x309D, 0x309F), (0x1B001, 0x1B11F), (0x1B132, 0x1B132), (0x1B150, 0x1B152))
KATAKANA: Ranges = (
    (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D), (0x1AFF0, 0x1B000), (0x1B120, 0x1B122),
    (0x1B155, 0x1B155), (0x1B164, 0x1B167),
)  # fmt: skip
CHARACTER_IS_WORD = HAN + HIRAGANA + KATAKANA


@dataclass(frozen=True)
class Phrases:
    """A script whose words only a dictionary tells apart, and the packages that bring one."""

    name: str
    ranges: Ranges
    packages: tuple["Package", ...]


@dataclass(frozen=True)
class Package:
    """module: as Python imports it; pip: as pip installs it; words: the module and a phrase -> its words in order."""

    module: str
    pip: str
    words: Callable[[Any, str], Iterable[str]]


_PYTHAINLP = Package("pythainlp", "pythainlp", lambda module, phrase: module.word_tokenize(phrase))
_LAONLP = Package("laonlp", "laonlp", lambda module, phrase: module.word_tokenize(phrase))
_KHMERNLTK = Package("khmernltk", "khmer-nltk", lambda module, phrase: module.word_tokenize(phrase))


def _by_icu(language: str) -> Package:
    def words(module: Any, phrase: str) -> Iterable[str]:
        breaks = module.BreakIterator.createWordInstance(module.Locale(language))
        breaks.setText(phrase)
        ends = list(breaks)
        # All of these letters are in the first plane, so ICU's UTF-16 offsets are Python's.
        return [phrase[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    return Package("icu", "pyicu", words)


PHRASES = (
    Phrases("Thai", ((0x0E01, 0x0E3A), (0x0E40, 0x0E4E)), (_PYTHAINLP, _by_icu("th"))),
    Phrases("Lao", ((0x0E81, 0x0ECD), (0x0EDC, 0x0EDF)), (_LAONLP, _by_icu("lo"))),
    Phrases("Khmer", ((0x1780, 0x17D3), (0x17D7, 0x17D7), (0x17DC, 0x17DD)), (_KHMERNLTK, _by_icu("km"))),
    Phrases("Burmese", ((0x1000, 0x103F), (0x1050, 0x108F), (0xA9E0, 0xA9FE), (0xAA60, 0xAA7F)), (_by_icu("my"),)),
)


def character_class(ranges: Ranges) -> str:
    """The inside of a regular expression's [...] for the characters of `ranges`."""
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


@cache
def _characters() -> re.Pattern[str]:
    return re.compile(f"[{character_class(CHARACTER_IS_WORD)}]")


def characters_that_are_words(word: str) -> int:
    """How many characters of `word` would be words of their own in raw text."""
    return 0 if word.isascii() else len(_characters().findall(word))


@cache
def _phrase_letters() -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<{script.name}>[{character_class(script.ranges)}])" for script in PHRASES))


def script_of_phrase(word: str) -> Phrases | None:
    """The script of `word` where such a "word" is a whole phrase, since no space ends it; None of any other."""
    if word.isascii() or (found := _phrase_letters().search(word)) is None:
        return None
    return next(script for script in PHRASES if script.name == found.lastgroup)


@cache
def segmenter(script: Phrases) -> Callable[[str], list[tuple[int, int]]] | None:
    """What cuts a phrase of `script` into the [start, end) of its words; None where none of its packages is there."""
    for package in script.packages:
        # Imported here, because none of them is needed by who has no such text. A package that is there and broken
        # (its own dependency or dictionary missing) counts as not there: the next may do.
        try:
            module = importlib.import_module(package.module)
            package.words(module, chr(script.ranges[0][0]))
        except Exception:
            continue
        return lambda phrase, package=package, module=module: _placed(phrase, package.words(module, phrase))  # type: ignore[misc]
    return None


def _placed(phrase: str, words: Iterable[str]) -> list[tuple[int, int]]:
    """[start, end) in `phrase` of its words in order; the whole phrase is one where they are not its own."""
    spans, end = [], 0
    for word in filter(None, map(str.strip, words)):
        start = phrase.find(word, end)
        if start < 0:  # a package that changes letters: offsets into the user's text matter more than its words
            return [(0, len(phrase))]
        end = start + len(word)
        spans.append((start, end))
    return spans or [(0, len(phrase))]


def advice(script: Phrases) -> str:
    """The line for a text of `script` whose words cannot be told apart."""
    packages = " (or ".join(package.pip for package in script.packages) + ")" * (len(script.packages) - 1)
    return (
        f"{script.name} has no spaces between words, so whole phrases were read as words: pip install {packages}, "
        'or give the words as {"words": [...]}'
    )
