"""What a user wants labels for, one item each: a line of a file, or an item of a list.

Anna went home.                            text
Is it late?<TAB>It is.                     two texts, where the task reads pairs
{"text": "Is it late?", "text_b": "It is."}    JSON: a line that begins with { and a quotation mark
{"words": ["Anna", "went", "home", "."]}   words as the user cut them, where the task tags words
"""

import dataclasses
import json
import queue
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import IO, Any

from albert_jax.data.text import scripts
from albert_jax.data.text.lines import flaw, how_to_convert
from albert_jax.errors import AlbertError, refuse, retold

MAX_LINE_BYTES = 2**22  # of one line; a text of a million characters fits in any script
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON = re.compile(r'\s*\{\s*["}]')
_ASCII_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Request:
    """texts: one or two; words: [start, end) in texts[0] of the words that the user cut, None where none were; warning:
    what the user should know about how it was read."""

    texts: tuple[str, ...]
    words: list[tuple[int, int]] | None = None
    warning: str = ""


def word_spans(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of each word of a plain text.

    A word is a run of letters, digits and underscores, or one other character that is no white space; marks (accents,
    vowel signs) and zero-width joiners belong to what they follow. A Chinese or Japanese character is a word of its own
    (`scripts.py`), as in the usual tagged data of these languages.

    >>> word_spans("It's np.sum")
    [(0, 2), (2, 3), (3, 4), (5, 7), (7, 8), (8, 11)]
    >>> word_spans("iPhone在东京")
    [(0, 6), (6, 7), (7, 8), (8, 9)]
    """
    words = _ASCII_WORDS if text.isascii() else _words()
    return [match.span() for match in words.finditer(text)]


def cut_words(request: Request) -> Request:
    """`request` with words: those that the user cut, else those of its text by `word_spans`. Phrases of Thai, Lao,
    Khmer and Burmese are cut by a package for that; where none is installed, a warning says so."""
    if request.words is not None:
        return request
    text, spans, warning = request.texts[0], [], ""
    for start, end in word_spans(text):
        script = scripts.script_of_phrase(text[start:end])
        cut = script and scripts.segmenter(script)
        if script and not cut:
            warning = scripts.advice(script)
        spans += [(start + s, start + e) for s, e in cut(text[start:end])] if cut else [(start, end)]
    return dataclasses.replace(request, words=spans, warning=warning)


@cache
def _words() -> re.Pattern[str]:
    # Python's `re` has no class for marks, so all of Unicode's are listed: a fifth of a second, once.
    points = (chr(point) for point in range(sys.maxunicode + 1))
    marks = "".join(point for point in points if unicodedata.category(point)[0] == "M") + "\u200c\u200d"
    marks += "\uff9e\uff9f"  # the voicing of halfwidth Katakana, letters to Unicode
    alone = scripts.character_class(scripts.CHARACTER_IS_WORD)
    return re.compile(rf"[{alone}][{marks}]*|[^\W{alone}](?:[^\W{alone}]+|[{marks}]+)*|[^\w\s][{marks}]*")


# ---- one item to a request


def read_request(item: Any, columns: Sequence[str], tags: bool = False) -> Request:
    """The request that `item` is.

    An item is bytes, a line of a file; str, a text; a dict with "text", "text_b" or "words", or with `columns` (what
    the training data calls the texts, one or two); a pair of texts; or a list of words where the task `tags` words.

    Raises AlbertError: not UTF-8 or with a NUL, no JSON, another number of texts than columns, an empty text, an item
    of another kind, or a line of more than 4 MiB.
    """
    if isinstance(item, bytes):
        item = _decode(item)
    if isinstance(item, dict):
        return _of_record(item, columns, tags)
    if isinstance(item, (list, tuple)) and all(isinstance(part, str) for part in item):
        return _of_words(item) if tags else _of_texts(tuple(item), columns)
    if not isinstance(item, str):
        raise AlbertError(f"no text but {item!r:.60}; give a text, a pair of texts or a dict with 'text'")
    return _of_texts(tuple(item.split("\t")) if len(columns) == 2 else (item,), columns)


def _decode(line: bytes) -> str | dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise AlbertError(f"a line of more than {MAX_LINE_BYTES:,} bytes; cut the text into several")
    try:
        text = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise AlbertError(
            f"not UTF-8 at byte {error.start} (0x{line[error.start]:02x}) of the line; {how_to_convert(line)}"
        ) from error
    # A text may begin with a brace ("{a: set}"); only what looks like an object is read as one.
    if not _JSON.match(text):
        return text
    how = 'mend it, or give a text that begins so as {"text": ...}'
    with retold(lambda message: f"not JSON ({message}); {how}", ValueError, RecursionError):
        return json.loads(text)


def _of_record(record: dict[str, Any], columns: Sequence[str], tags: bool) -> Request:
    if tags and "words" in record:
        words, text = record["words"], record.get("text")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise AlbertError(f"'words' is no list of words but {words!r:.60}")
        return _of_words(words, text if isinstance(text, str) else None)
    # The names of the training data where all are given, else the names that every task understands.
    names = list(columns) if all(name in record for name in columns) else ["text", "text_b"][: len(columns)]
    refuse(_record_flaws(record, names, tags))
    return _of_texts(tuple(record[name] for name in names), columns)


def _record_flaws(record: dict[str, Any], names: Sequence[str], tags: bool) -> Iterator[str]:
    for name in names:
        if name not in record:
            yield (
                f"no field {name!r} but {', '.join(map(repr, record))[:200] or 'none'}; give "
                f"{' and '.join(map(repr, names))}{' or ' + repr('words') if tags else ''}"
            )
        if not isinstance(record[name], str):
            yield f"{name!r} is no text but {record[name]!r:.60}; put it in quotes"
    if len(names) == 1 and "text_b" in record:
        yield "a second text in 'text_b', and this model reads one; leave it out"


def _of_words(words: Sequence[str], text: str | None = None) -> Request:
    """The words at their positions in `text`; without one, the text is the words with a space between them."""
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
    # The whole text and not the words: half of a surrogate pair may stand between them.
    refuse(filter(None, [flaw(whole)]))
    return Request((whole,), spans)


def _of_texts(texts: tuple[str, ...], columns: Sequence[str]) -> Request:
    refuse(_text_flaws(texts, columns))
    return Request(texts)


def _text_flaws(texts: tuple[str, ...], columns: Sequence[str]) -> Iterator[str]:
    if len(texts) != len(columns):
        reads = "pairs" if len(columns) == 2 else "one"
        yield (
            f"{len(texts)} text{'s' * (len(texts) != 1)}, and this model reads {reads}; "
            f"give {' and '.join(columns)}{' with a tab between them' if len(columns) == 2 else ' alone'}"
        )
    if not all(text.strip() for text in texts):
        yield "the text is empty; fill it or leave it out"
    yield from filter(None, map(flaw, texts))


# ---- items as they come


def read_items(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of `file` as they come, without a byte order mark.

    Of a line that is too long only so much is given that `read_request` refuses it.
    """
    # With a limit: a line without an end, as of a binary file, would be read into memory whole.
    start = True
    while line := file.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        yield line.removeprefix(_BYTE_ORDER_MARK) if start else line
        start = False


_END = object()
_POLL_S = 0.2  # seconds after which the reading thread asks again whether anybody still wants its items


class Arrivals:
    """Gives out items in groups, without waiting for those that have not come, as from a pipe or a generator."""

    def __init__(self, items: Iterable[Any], waits: bool, ahead: int):
        """`waits`: asking for the next item may wait for somebody, so a thread reads at most `ahead` of them early."""
        self._items: Iterator[Any] = iter(items)
        self._queue: queue.Queue[Any] = queue.Queue(ahead)
        self._waits = waits
        self._wanted = True
        self._ended = False
        self.error: BaseException | None = None  # that the iterator of the items raised, which ended them
        self.waited = 0.0  # seconds that `take` has waited for items
        if waits:
            threading.Thread(target=self._read, daemon=True, name="albert_jax arrivals").start()

    def take(self, count: int, patience: float | None) -> list[Any] | None:
        """Up to `count` items that have come; waits for the first for `patience` seconds (None: until it comes).

        An empty list when none came in that time, None after the last.
        """
        found: list[Any] = []
        if not self._waits:
            try:
                for item in islice(self._items, count):
                    found.append(item)
            except Exception as error:
                self.error = error
            return found or None
        while len(found) < count and not self._ended:
            start = time.perf_counter()
            try:
                item = self._queue.get(timeout=patience) if not found and patience != 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            finally:
                self.waited += time.perf_counter() - start
            if item is _END:
                self._ended = True
            else:
                found.append(item)
        return None if self._ended and not found else found

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # raised by whoever takes the items, after those that came before
            self.error = error
        self._put(_END)

    def _put(self, item: Any) -> bool:
        """Whether somebody still wants items."""
        # A queue cannot be closed (before Python 3.13): without the timeout a thread whose reader has gone would wait
        # for ever at a full queue.
        while self._wanted:
            try:
                self._queue.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def __enter__(self) -> "Arrivals":
        return self

    def __exit__(self, *error: object) -> None:
        self._wanted = False
