"""Plain text files: bytes to lines, and lines to documents.

Lines become documents in one of two layouts:
  sentences   one sentence a line; a blank line ends the document (the layout of BERT's and ALBERT's own tools)
  paragraphs  blocks of lines ended by a blank line. If any line of a block is longer than 100 characters, every line of
              it is a paragraph; else the lines were wrapped and the block is one paragraph. Paragraphs are split into
              sentences (`sentences.py`). Two blank lines, or the end of the file, end the document.
In both, a document of more than 65,536 characters is divided where a sentence or a paragraph ends.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Literal, cast

from albert_jax.data.text.sentences import split_sentences
from albert_jax.errors import AlbertError, refuse, retold

Layout = Literal["auto", "sentences", "paragraphs"]

CHUNK_BYTES = 2**20
MAX_LINE_BYTES = 2**20  # of plain text; a longer line is not a sentence or a paragraph
# A file without blank lines would otherwise be one document, which fills the memory and falls into one split.
MAX_DOCUMENT_CHARACTERS = 2**16
_WRAPPED = 100  # characters: longer lines were not wrapped by hand or by an editor
_ENDS_SENTENCE = re.compile(r"[.!?…:;。！？]['\"”’»)\]」』）]*$")
_HOLDS_SENTENCE_END = re.compile(r"[.!?…]['\"”’»)\]]*\s+['\"“‘«(\[]*[^\W\d_a-z]|[。！？][^\s」』）”]")

# ---- bytes to lines


def read_lines(
    path: str, start: int = 0, stop: int | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, list[str]]]:
    """The lines of `path` from byte `start` up to byte `stop`, in batches of about a megabyte.

    `start` and `stop` must be at line starts (or the file's end). Names that end in .gz are decompressed, and then must
    be read whole. Line ends are LF or CRLF; they are removed, as is a byte order mark.

    Yields the number of newlines before the batch, counted from `start`, and its lines. Raises AlbertError, which names
    the file and the line, when the file cannot be read, is not UTF-8, is a damaged gzip file, or has a line longer than
    `max_line_bytes`.
    """
    unreadable = retold(lambda said: f"{path}: cannot be read ({said})", OSError)
    damaged = retold(
        lambda said: f"{path}: damaged gzip file ({said}); restore it or leave it out",
        gzip.BadGzipFile,
        EOFError,
        zlib.error,
    )
    opener = gzip.open if path.endswith(".gz") else open
    with unreadable, damaged, cast(IO[bytes], opener(path, "rb")) as file:
        if start:
            file.seek(start)
        yield from _batches(path, file, start, stop, max_line_bytes)


def _batches(
    path: str, file: IO[bytes], start: int, stop: int | None, max_line_bytes: int
) -> Iterator[tuple[int, list[str]]]:
    position = start  # of the first byte that has not been yielded
    newlines = 0
    rest = b""
    while True:
        wanted = CHUNK_BYTES if stop is None else min(CHUNK_BYTES, stop - position - len(rest))
        chunk = file.read(wanted) if wanted > 0 else b""
        text = rest + chunk
        cut = text.rfind(b"\n") + 1 if chunk else len(text)
        whole, rest = text[:cut], text[cut:]
        # Before the next chunk is read: a file of gigabytes without a newline must not be gathered in memory.
        if len(rest) > max_line_bytes:
            refuse(_too_long(path, start, newlines + whole.count(b"\n"), [rest], max_line_bytes))
        if whole:
            lines = _decode(path, whole, start, position, newlines).split("\n")
            if lines[-1] == "":
                lines.pop()
            if position == 0 and lines:
                lines[0] = lines[0].removeprefix("\ufeff")
            if len(whole) > max_line_bytes:
                refuse(_too_long(path, start, newlines, lines, max_line_bytes))
            yield newlines, lines
            newlines += len(lines)
            position += len(whole)
        if not chunk:
            return


def _too_long(path: str, start: int, newlines: int, lines: Iterable[str | bytes], limit: int) -> Iterator[str]:
    for number, line in enumerate(lines, newlines):
        if len(line) > limit:
            yield (
                f"{path}: line {line_number(path, start, number)} is longer than {limit:,} bytes;"
                " put one sentence or one paragraph on a line"
            )


def _decode(path: str, whole: bytes, start: int, position: int, newlines: int) -> str:
    try:
        text = whole.decode("utf-8")
    except UnicodeDecodeError as error:
        line = line_number(path, start, newlines + whole.count(b"\n", 0, error.start))
        raise AlbertError(
            f"{path}: not UTF-8 at byte {position + error.start} (0x{whole[error.start]:02x}, line {line}); "
            f"{how_to_convert(b'' if position else whole)}"
        ) from error
    return text.replace("\r\n", "\n") if "\r\n" in text else text


def line_number(path: str, start: int, newlines: int) -> int:
    """The 1-based number in the file of the line after `newlines` newlines counted from byte `start`."""
    # Counted only for a complaint: a worker that reads a byte range does not know how many lines came before it.
    before = 0
    if start:
        with open(path, "rb") as file:
            remaining = start
            while remaining > 0 and (chunk := file.read(min(CHUNK_BYTES, remaining))):
                before += chunk.count(b"\n")
                remaining -= len(chunk)
    return before + newlines + 1


def numbered_lines(path: str, max_line_bytes: int) -> Iterator[tuple[int, str]]:
    """(number, line) of each line of a whole file of labelled text, from 1; else as `read_lines`.

    Raises AlbertError also for a line with a NUL, which no text has: it is binary, or UTF-16.
    """
    for newlines, lines in read_lines(path, max_line_bytes=max_line_bytes):
        for number, line in enumerate(lines, newlines + 1):
            if "\0" in line:
                raise AlbertError(f"{path}: line {number}: {flaw(line)}")
            yield number, line


def flaw(text: str) -> str:
    """Why a string is not text, and what to do; "" where it is."""
    if (position := text.find("\0")) >= 0:
        return f"character {position} is NUL, so this is no plain text; save it as UTF-8 (it may be UTF-16)"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start} is half of a surrogate pair (U+{ord(text[error.start]):04X}); mend it"
    return ""


def how_to_convert(start: bytes) -> str:
    """What to do with bytes that are not UTF-8 and begin with `start`."""
    # UTF-16 without a byte order mark: every second byte of Western text is NUL.
    halves = {"utf-16le": start[1:1000:2], "utf-16be": start[:1000:2]}
    encoding = next((name for name, half in halves.items() if b"\0" in half), "latin1")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    return f"convert it, for example with `iconv -f {encoding} -t utf-8`"


# ---- lines to documents


def detect_layout(lines: Iterable[str]) -> Literal["sentences", "paragraphs"]:
    """The layout of a file that begins with `lines`."""
    filled, blocks, in_block = [], 0, False
    for line in lines:
        line = line.strip()
        if line:
            filled.append(line)
            blocks += not in_block
        in_block = bool(line)
    if not filled:
        return "sentences"
    several = sum(bool(_HOLDS_SENTENCE_END.search(line)) for line in filled) / len(filled)
    ending = sum(bool(_ENDS_SENTENCE.search(line)) for line in filled) / len(filled)
    short = sum(len(line) <= _WRAPPED for line in filled) / len(filled)
    # The thresholds are judgement: a file of one sentence a line still has abbreviations that look like a sentence's
    # end, and a wrapped one has lines that happen to end with a sentence.
    wrapped = several >= 0.1 and ending < 0.5 and short >= 0.9 and len(filled) >= 2 * blocks
    return "paragraphs" if several >= 0.3 or wrapped else "sentences"


def documents(batches: Iterable[Sequence[str]], layout: Layout) -> Iterator[tuple[str, ...]]:
    """Documents, each its sentences, from batches of lines in the layout `sentences` or `paragraphs`."""
    to_sentences, blanks_between = (_block_sentences, 2) if layout == "paragraphs" else (list, 1)
    sentences: list[str] = []
    block: list[str] = []
    characters = blanks = 0
    for lines in batches:
        for line in lines:
            if line and not line.isspace():
                block.append(line)
                characters += len(line)
                if characters < MAX_DOCUMENT_CHARACTERS:
                    continue
            else:
                blanks = 1 if block else blanks + 1
            sentences += to_sentences(block)
            block.clear()
            if sentences and (blanks >= blanks_between or characters >= MAX_DOCUMENT_CHARACTERS):
                yield tuple(sentences)
                sentences = []
                characters = blanks = 0
    sentences += to_sentences(block)
    if sentences:
        yield tuple(sentences)


def text_sentences(text: str, layout: Layout) -> tuple[str, ...]:
    """The sentences of one document given as one string, such as the `text` field of JSON lines.

    Its lines are sentences under `sentences`, else they are read as paragraphs; blank lines do not divide it.
    """
    if layout == "sentences":
        return tuple(line for line in text.splitlines() if line and not line.isspace())
    sentences: list[str] = []
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line and not line.isspace():
            block.append(line)
        else:
            sentences += _block_sentences(block)
            block.clear()
    return tuple(sentences)


def _block_sentences(block: list[str]) -> list[str]:
    if any(len(line) > _WRAPPED for line in block):
        return [sentence for line in block for sentence in split_sentences(line)]
    return split_sentences(" ".join(block))
