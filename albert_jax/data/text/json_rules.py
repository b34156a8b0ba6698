"""The rules of a `tokenizer.json` before its model: how it normalises a text, and cuts it into words.

Written after the documentation and the observed output of the `tokenizers` library (0.22 and 0.23), whose files these
are; `tests/goldens/make_json_goldens.py` compares. The library knows Unicode as of its own tables, here it is as of
Python's: letters and marks younger than Unicode 9 may be treated otherwise.
"""

import base64
import re
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from albert_jax.data.text.normalize import starter_runs
from albert_jax.errors import AlbertError, retold

Json = dict[str, Any]
SPACE = "▁"
# What Rust takes for white space; `str.split` takes "\x1c" to "\x1f" too.
_WHITE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# The library's table has a gap where the original's has U+2B820 to U+2B91F.
_CJK = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b81f"
                  "\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f]")  # fmt: skip
# Means the same in Python's regular expressions and in Oniguruma's: no escaped classes, no sets within sets.
_SHARED_REGEX = re.compile(r"(?:[^\\\[^$]|\\[^\w]|\[(?:[^\\\[\]&]|\\[^\w])*\])*")


# ---- normalizers


@dataclass(frozen=True)
class Normalizer:
    """One step of normalisation, and how it can be followed back to the text: `runs(text)` cuts a text into parts
    [start, end) that are normalised on their own, so that `apply(text)` is the parts' results one after the other."""

    apply: Callable[[str], str]
    runs: Callable[[str], Iterable[tuple[int, int]]]


def characters(text: str) -> Iterable[tuple[int, int]]:
    return ((position, position + 1) for position in range(len(text)))


def follow(steps: Iterable[Normalizer], text: str) -> tuple[str, list[tuple[int, int]]]:
    """`text` after all `steps`, and for each of its characters the characters [start, end) of `text` under it."""
    spans = list(characters(text))
    for step in steps:
        parts, before, spans = [], spans, []
        for start, end in step.runs(text):
            part = step.apply(text[start:end])
            parts.append(part)
            spans += [(before[start][0], before[end - 1][1])] * len(part)
        text = "".join(parts)
    return text, spans


def normalizers(spec: Any, source: str) -> tuple[Normalizer, ...]:
    """The steps that the field `normalizer` asks for. Raises AlbertError for one that is not known here."""
    if spec is None:
        return ()
    kind = _kind(spec, "normalizer", source)
    if kind == "Sequence":
        return tuple(step for part in spec["normalizers"] for step in normalizers(part, source))
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        return (_unicode(kind),)
    if kind == "BertNormalizer":
        return tuple(_bert(spec))
    if kind == "Replace":
        return (_replace(_pattern(spec, source), spec["content"]),)
    if kind == "Strip":
        return (Normalizer(partial(_stripped, left=spec["strip_left"], right=spec["strip_right"]), _whole),)
    if kind == "Precompiled":
        map = CharacterMap(base64.b64decode(spec["precompiled_charsmap"]))
        return (Normalizer(map.apply, _clusters),)
    simple = {"StripAccents": _without_marks, "Lowercase": _lowered}
    if kind not in simple:
        raise AlbertError(f"{source}: {_unknown('normalizer', kind)}")
    return (Normalizer(simple[kind], characters),)


def _kind(spec: Any, what: str, source: str) -> str:
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
        raise AlbertError(f"{source}: {what} is {str(spec)[:40]!r}, not an object with a type; copy it again")
    return spec["type"]


def _unknown(what: str, kind: str) -> str:
    return f"the {what} {kind!r} is not known here; give the model's spiece.model or vocab.txt instead"


def _pattern(spec: Json, source: str) -> re.Pattern[str]:
    """The `pattern` of a rule: a literal string, or a regular expression that means the same in Python."""
    if "String" in (pattern := spec["pattern"]):
        return re.compile(re.escape(pattern["String"]))
    text = pattern["Regex"]
    if not _SHARED_REGEX.fullmatch(text):
        raise AlbertError(f"{source}: {_unknown('regular expression', text[:60])}")
    with retold(lambda said: f"{source}: the regular expression {text[:60]!r} is not known here ({said})", re.error):
        return re.compile(text)


def _replace(pattern: re.Pattern[str], content: str) -> Normalizer:
    def runs(text: str) -> Iterator[tuple[int, int]]:
        end = 0
        for match in pattern.finditer(text):
            yield from ((position, position + 1) for position in range(end, match.start()))
            yield match.span()
            end = match.end()
        yield from ((position, position + 1) for position in range(end, len(text)))

    return Normalizer(partial(pattern.sub, lambda _: content), runs)


def _unicode(form: Any) -> Normalizer:
    def apply(text: str) -> str:
        return text if text.isascii() else unicodedata.normalize(form, text)

    # Where characters are put together, a run is a whole word: Hangul is composed of what are starters each.
    composed = form in ("NFC", "NFKC")
    return Normalizer(apply, _words if composed else lambda text: starter_runs(text, 0, len(text)))


def _words(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in re.finditer(r"\s|\S+", text))


def _whole(text: str) -> list[tuple[int, int]]:
    return [(0, len(text))] if text else []


def _stripped(text: str, left: bool, right: bool) -> str:
    text = re.sub(f"^[{_WHITE}]+", "", text) if left else text
    return re.sub(f"[{_WHITE}]+$", "", text) if right else text


def _without_marks(text: str) -> str:
    """Without marks of any kind: the original drops those with a combining class only."""
    if text.isascii():
        return text
    return "".join(character for character in text if unicodedata.category(character)[0] != "M")


def _lowered(text: str) -> str:
    # Character by character: a final sigma does not depend on its neighbours.
    return text.replace("Σ", "σ").lower()


def _bert(spec: Json) -> Iterator[Normalizer]:
    if spec["clean_text"]:
        yield Normalizer(_cleaned, characters)
    if spec["handle_chinese_chars"]:
        yield Normalizer(partial(_CJK.sub, lambda match: f" {match[0]} "), characters)
    lower, accents = spec["lowercase"], spec["strip_accents"]
    if lower if accents is None else accents:
        yield _unicode("NFD")
        yield Normalizer(_without_nonspacing, characters)
    if lower:
        yield Normalizer(_lowered, characters)


_DROPPED, _WHITE_ONE = re.compile("[\0\ufffd]"), re.compile(f"[{_WHITE}]")


def _cleaned(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    kept = (
        character
        for character in _DROPPED.sub("", text)
        if character in "\t\n\r" or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs")
    )
    return _WHITE_ONE.sub(" ", "".join(kept))


def _without_nonspacing(text: str) -> str:
    return text if text.isascii() else "".join(one for one in text if unicodedata.category(one) != "Mn")


class CharacterMap:
    """SentencePiece's `precompiled_charsmap`, used as the library does: by clusters of a character and its marks, of
    which the shortest prefix that the map holds stands for all.

    The bytes are the size of a trie, the trie (a double array of 32-bit units), and the results, each ended by a NUL.
    """

    def __init__(self, content: bytes):
        (size,) = struct.unpack("<I", content[:4])
        self._units = np.frombuffer(content[4 : 4 + size], "<u4").tolist()
        self._results = content[4 + size :]
        self._known: dict[str, str] = {}

    def apply(self, text: str) -> str:
        return "".join(map(self._cluster, _cluster_pattern().findall(text)))

    def _cluster(self, cluster: str) -> str:
        if (known := self._known.get(cluster)) is not None:
            return known
        # Longer ones are looked up by character, so that Hangul stays as decomposed as it was.
        found = self._find(cluster) if len(cluster.encode("utf-8", "replace")) < 6 else None
        if found is None:
            each = ((character, self._find(character)) for character in cluster)
            found = "".join(character if result is None else result for character, result in each)
        self._known[cluster] = found
        return found

    def _find(self, key: str) -> str | None:
        unit = self._units[position := 0]
        position ^= self._offset(unit)
        for octet in key.encode("utf-8", "replace"):
            position ^= octet
            if not octet or position >= len(self._units):
                return None
            unit = self._units[position]
            if unit & 0x800000FF != octet:
                return None
            position ^= self._offset(unit)
            if unit >> 8 & 1:  # the key so far has a result, whose place is the value of the next unit
                begin = self._units[position] & 0x7FFFFFFF
                return self._results[begin : self._results.index(0, begin)].decode("utf-8")
        return None

    @staticmethod
    def _offset(unit: int) -> int:
        return unit >> 10 << ((unit & 0x200) >> 6)


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _cluster_pattern().finditer(text))


_CLUSTER: list[re.Pattern[str]] = []


def _cluster_pattern() -> re.Pattern[str]:
    """A character with the marks after it, or the Arabic number sign before it: extended grapheme clusters (UAX 29) as
    far as they can have fewer than six bytes."""
    if not _CLUSTER:
        points = (chr(point) for point in range(0x300, 0xE0200) if not 0xD800 <= point < 0xE000)
        marks = re.escape("".join(one for one in points if unicodedata.category(one)[0] == "M") + "\u200c\u200d")
        alone = "".join(chr(point) for point in (*range(32), *range(0x7F, 0xA0), 0xAD)) + "\u2028\u2029\u200b\ufeff"
        alone += "\u200e\u200f\u202a-\u202e\u2060-\u206f"
        before = "\u0600-\u0605\u06dd\u070f"
        _CLUSTER.append(re.compile(f"\r\n|[{before}]*[^{alone}][{marks}]*|[\\s\\S]"))
    return _CLUSTER[0]


# ---- words


@dataclass(frozen=True, slots=True)
class Word:
    """text: what pieces are cut from; start: where it begins in the normalised text; added: the characters at its front
    that are not in that."""

    text: str
    start: int
    added: int = 0


Splitter = Callable[[Word], Iterable[Word]]


def splitters(spec: Any, source: str) -> tuple[Splitter, ...]:
    """The steps that the field `pre_tokenizer` asks for. Raises AlbertError for one that is not known here."""
    if spec is None:
        return ()
    kind = _kind(spec, "pre_tokenizer", source)
    if kind == "Sequence":
        return tuple(step for part in spec["pretokenizers"] for step in splitters(part, source))
    if kind == "WhitespaceSplit":
        return (_by(re.compile(f"[^{_WHITE}]+")),)
    if kind == "BertPreTokenizer":
        return (_bert_words,)
    if kind == "Metaspace":
        return (_metaspace(spec, source),)
    if kind == "Split":
        return (_split(spec, source),)
    raise AlbertError(f"{source}: {_unknown('pre_tokenizer', kind)}")


def words(steps: Iterable[Splitter], text: str) -> list[Word]:
    """The words of a normalised text."""
    found = [Word(text, 0)] if text else []
    for step in steps:
        found = [part for word in found for part in step(word)]
    return found


def _by(pattern: re.Pattern[str]) -> Splitter:
    def step(word: Word) -> Iterator[Word]:
        for match in pattern.finditer(word.text):
            begin = match.start()
            yield Word(match[0], word.start + max(begin - word.added, 0), max(word.added - begin, 0))

    return step


def _bert_words(word: Word) -> Iterator[Word]:
    for part in _by(re.compile(f"[^{_WHITE}]+"))(word):
        begin = 0
        for position, character in enumerate(part.text):
            ascii_symbol = 33 <= ord(character) <= 126 and not character.isalnum()
            if ascii_symbol or unicodedata.category(character)[0] == "P":
                if position > begin:
                    yield Word(part.text[begin:position], part.start + begin)
                yield Word(character, part.start + position)
                begin = position + 1
        if begin < len(part.text):
            yield Word(part.text[begin:], part.start + begin)


def _metaspace(spec: Json, source: str) -> Splitter:
    scheme = spec.get("prepend_scheme", "always" if spec.get("add_prefix_space", True) else "never")
    if spec["replacement"] != SPACE or scheme not in ("always", "never"):
        what = f"Metaspace with {spec['replacement']!r} and prepend_scheme {scheme!r}"
        raise AlbertError(
            f"{source}: the pre_tokenizer {what} is not known here; {SPACE!r} and 'always' or 'never' are"
        )
    prepend, split = scheme == "always", spec.get("split", True)

    def step(word: Word) -> Iterator[Word]:
        text, added = word.text.replace(" ", SPACE), word.added
        if prepend and not text.startswith(SPACE):
            text, added = SPACE + text, added + 1
        if not split:
            yield Word(text, word.start, added)
            return
        for match in re.finditer(f"{SPACE}[^{SPACE}]*|[^{SPACE}]+", text):
            begin = match.start()
            yield Word(match[0], word.start + max(begin - added, 0), max(added - begin, 0))

    return step


def _split(spec: Json, source: str) -> Splitter:
    pattern, behavior = _pattern(spec, source), spec["behavior"]
    if spec.get("invert") or behavior not in ("Removed", "Isolated", "MergedWithNext", "MergedWithPrevious"):
        raise AlbertError(f"{source}: {_unknown('behavior of a pre_tokenizer Split', behavior)}")

    def step(word: Word) -> Iterator[Word]:
        spans = [match.span() for match in pattern.finditer(word.text) if match.end() > match.start()]
        cuts = {0, len(word.text)}
        for start, end in spans:
            cuts |= {start} if behavior == "MergedWithNext" else set()
            cuts |= {end} if behavior == "MergedWithPrevious" else set()
            cuts |= {start, end} if behavior in ("Removed", "Isolated") else set()
        ordered = sorted(cuts)
        for start, end in pairwise(ordered):
            if not (behavior == "Removed" and (start, end) in spans):
                begin = word.start + max(start - word.added, 0)
                yield Word(word.text[start:end], begin, max(word.added - start, 0))

    return step
