"""Text files as batches of lines: byte ranges of big files, gzip, and errors that name the file and the
line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from albert_jax.errors import AlbertError

CHUNK_BYTES = 2**20
MAX_LINE_BYTES = 2**20  # of plain text; a longer line is not a sentence or a paragraph
_BYTE_ORDER_MARK = "\ufeff"


def read_lines(
    path: str, start: int = 0, stop: int | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, list[str]]]:
    """The lines of `path` from byte `start` up to byte `stop`, in batches of about a megabyte.

    `start` and `stop` must be at line starts (or the file's end). Names that end in .gz are decompressed, and
    then must be read whole. Line ends are LF or CRLF; they are removed, as is a byte order mark.

    Yields:
        The number of newlines before the batch, counted from `start`, and its lines.

    Raises:
        AlbertError: the file cannot be read, is not UTF-8, is a damaged gzip file, or has a line longer than
            `max_line_bytes`; it names the file and the line.
    """
    try:
        with _open(path) as file:
            if start:
                file.seek(start)
            yield from _batches(path, file, start, stop, max_line_bytes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise AlbertError(f"{path}: damaged gzip file ({error}); restore it or leave it out") from error
    except OSError as error:
        raise AlbertError(f"{path}: cannot be read ({error.strerror or error})") from error


def _batches(
    path: str, file: IO[bytes], start: int, stop: int | None, max_line_bytes: int
) -> Iterator[tuple[int, list[str]]]:
    position = start  # of the first byte that has not been handed out
    newlines = 0
    rest = b""
    while True:
        wanted = CHUNK_BYTES if stop is None else min(CHUNK_BYTES, stop - position - len(rest))
        chunk = file.read(wanted) if wanted > 0 else b""
        text = rest + chunk
        cut = text.rfind(b"\n") + 1 if chunk else len(text)
        whole, rest = text[:cut], text[cut:]
        if len(rest) > max_line_bytes:
            raise AlbertError(_too_long(path, start, newlines + whole.count(b"\n"), max_line_bytes))
        if whole:
            lines = _decode(path, whole, start, position, newlines).split("\n")
            if lines[-1] == "":
                lines.pop()
            if position == 0 and lines and lines[0].startswith(_BYTE_ORDER_MARK):
                lines[0] = lines[0][1:]
            if len(whole) > max_line_bytes:
                for number, line in enumerate(lines):
                    if len(line) > max_line_bytes:
                        raise AlbertError(_too_long(path, start, newlines + number, max_line_bytes))
            yield newlines, lines
            newlines += len(lines)
            position += len(whole)
        if not chunk:
            return


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
    """What makes a string no text, with what to do; "" where nothing does."""
    if (place := text.find("\0")) >= 0:
        return f"character {place} is NUL, so this is no plain text; save it as UTF-8"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start} is half of a surrogate pair (U+{ord(text[error.start]):04X}); mend it"
    return ""


def how_to_convert(start: bytes) -> str:
    """What to do with bytes that are not UTF-8 and begin with `start`."""
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
    return f"convert it, for example with `iconv -f {encoding} -t utf-8`"


def line_number(path: str, start: int, newlines: int) -> int:
    """The 1-based number in the file of the line after `newlines` newlines counted from byte `start`."""
    before = 0
    if start:
        with open(path, "rb") as file:
            remaining = start
            while remaining > 0 and (chunk := file.read(min(CHUNK_BYTES, remaining))):
                before += chunk.count(b"\n")
                remaining -= len(chunk)
    return before + newlines + 1


def _open(path: str) -> IO[bytes]:
    if Path(path).suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return open(path, "rb")


def _decode(path: str, whole: bytes, start: int, position: int, newlines: int) -> str:
    try:
        text = whole.decode("utf-8")
    except UnicodeDecodeError as error:
        line = line_number(path, start, newlines + whole.count(b"\n", 0, error.start))
        value = whole[error.start]
        raise AlbertError(
            f"{path}: not UTF-8 at byte {position + error.start} (0x{value:02x}, line {line}); "
            f"{how_to_convert(b'' if position else whole)}"
        ) from error
    return text.replace("\r\n", "\n") if "\r\n" in text else text


def _too_long(path: str, start: int, newlines: int, limit: int) -> str:
    return (
        f"{path}: line {line_number(path, start, newlines)} is longer than {limit:,} bytes;"
        " put one sentence or one paragraph on a line"
    )
