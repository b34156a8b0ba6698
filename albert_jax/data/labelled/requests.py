"""What a user wants labels for, one item each: a line of a file, or an item of a list.

Anna went home.                            text
Is it late?<TAB>It is.                     two texts, where the task reads pairs
{"text": "Is it late?", "text_b": "It is."}    JSON: a line that begins with { and a quotation mark
{"words": ["Anna", "went", "home", "."]}   words as the user cut them, where the task tags words
"""

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import IO, Any

from albert_jax.data.text.lines import flaw, how_to_convert
from albert_jax.errors import AlbertError

MAX_LINE_BYTES = 2**22  # of one line; a text of a million characters fits in any script
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON = re.compile(r'\s*\{\s*["}]')
_ASCII_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Request:
    """texts: one or two; words: [start, end) in texts[0] of the words that the user cut, None where none were."""

    texts: tuple[str, ...]
    words: list[tuple[int, int]] | None = None


def word_spans(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of each word of a plain text.

    A word is a run of letters, digits and underscores, or one other character that is no white space; marks (accents,
    vowel signs) and zero-width joiners belong to what they follow.

    >>> word_spans("It's np.sum")
    [(0, 2), (2, 3), (3, 4), (5, 7), (7, 8), (8, 11)]
    """
    words = _ASCII_WORDS if text.isascii() else _words()
    return [match.span() for match in words.finditer(text)]


@cache
def _words() -> re.Pattern[str]:
    """The rule of `word_spans` with all marks of Unicode: a fifth of a second, once."""
    points = (chr(point) for point in range(sys.maxunicode + 1))
    marks = "".join(point for point in points if unicodedata.category(point)[0] == "M") + "\u200c\u200d"
    return re.compile(rf"\w[\w{marks}]*|[^\w\s][{marks}]*")


def read_items(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of `file` as they come, without a byte order mark; of one that is too long only so much that
    `read_request` refuses it."""
    start = True
    while line := file.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        yield line.removeprefix(_BYTE_ORDER_MARK) if start else line
        start = False


def read_request(item: Any, columns: Sequence[str], tags: bool = False) -> Request:
    """The request that `item` is.

    Args:
      item: bytes, a line of a file; str, a text; a dict with "text", "text_b" or "words", or with `columns`; a pair of
        texts; a list of words where `tags`
      columns: what the training data calls the texts, one or two
      tags: whether the task tags words

    Raises AlbertError: not UTF-8 or with a NUL, no JSON, another number of texts than columns, an empty text, an item
    of another kind, or a line of more than 4 MiB.
    """
    if isinstance(item, bytes):
        item = _decode(item)
    if isinstance(item, dict):
        return _of_record(item, columns, tags)
    if isinstance(item, (list, tuple)) and all(isinstance(part, str) for part in item):
        return _of_words(item) if tags else _checked(tuple(item), columns)
    if not isinstance(item, str):
        raise AlbertError(f"no text but {_shown(item)}; give a text, a pair of texts or a dict with 'text'")
    return _checked(tuple(item.split("\t")) if len(columns) == 2 else (item,), columns)


def _decode(line: bytes) -> str | dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise AlbertError(f"a line of more than {MAX_LINE_BYTES:,} bytes; cut the text into several")
    try:
        text = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise AlbertError(
            f"not UTF-8 at byte {error.start} (0x{line[error.start]:02x}) of the line; {how_to_convert(line)}"
        ) from error
    if not _JSON.match(text):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AlbertError(f'not JSON ({error}); mend it, or give a text that begins so as {{"text": ...}}') from error


def _of_record(record: dict[str, Any], columns: Sequence[str], tags: bool) -> Request:
    text = record.get("text")
    if tags and "words" in record:
        words = record["words"]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise AlbertError(f"'words' is no list of words but {_shown(words)}")
        return _of_words(words, text if isinstance(text, str) else None)
    names = list(columns) if all(name in record for name in columns) else ["text", "text_b"][: len(columns)]
    for name in names:
        if name not in record:
            raise AlbertError(
                f"no field {name!r} but {', '.join(map(repr, record))[:200] or 'none'}; give "
                f"{' and '.join(map(repr, names))}{' or ' + repr('words') if tags else ''}"
            )
        if not isinstance(record[name], str):
            raise AlbertError(f"{name!r} is no text but {_shown(record[name])}; put it in quotes")
    if len(columns) == 1 and "text_b" in record:
        raise AlbertError("a second text in 'text_b', and this model reads one; leave it out")
    return _checked(tuple(record[name] for name in names), columns)


def _of_words(words: Sequence[str], text: str | None = None) -> Request:
    """Words where they stand in `text`; without one, the text is the words with a space between them."""
    if not words:
        raise AlbertError("there are no words in it; fill it or leave it out")
    whole = " ".join(words) if text is None else text
    spans, end = [], 0
    for word in words:
        start = whole.find(word, end)
        if start < 0:
            raise AlbertError(f"the word {word[:40]!r} does not follow in 'text'; mend it or leave out 'text'")
        end = start + len(word)
        spans.append((start, end))
        end += text is None  # the space
    return Request(_encodable((whole,)), spans)


def _checked(texts: tuple[str, ...], columns: Sequence[str]) -> Request:
    if len(texts) != len(columns):
        reads = "pairs" if len(columns) == 2 else "one"
        raise AlbertError(
            f"{len(texts)} text{'s' * (len(texts) != 1)}, and this model reads {reads}; "
            f"give {' and '.join(columns)}{' with a tab between them' if len(columns) == 2 else ' alone'}"
        )
    if not all(text.strip() for text in texts):
        raise AlbertError("the text is empty; fill it or leave it out")
    return Request(_encodable(texts))


def _encodable(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if said := flaw(text):
            raise AlbertError(said)
    return texts


def _shown(value: Any) -> str:
    return repr(value)[:60]
