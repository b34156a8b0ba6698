"""Labelled texts from TSV, CSV and JSON lines.

    text<TAB>label            Labelled(("Well made.",), "good", "train.tsv: line 2")
    Well made.<TAB>good

A .tsv has no quoting: a quotation mark is a character, as in the files of GLUE. A .csv is quoted by RFC 4180 and may
hold line ends inside quotes. Both begin with a line of column names.
"""

import csv
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from albert_jax.data.text.lines import flaw, numbered_lines
from albert_jax.errors import AlbertError

MAX_CHARACTERS = 200_000  # of one text; more is rather a quotation mark left open than a text
MAX_LINE_BYTES = 2**26
MAX_NUMBER = 1e30  # of a real target; what is larger leaves float32 in the loss
_NOT_IN_NAMES = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogate pairs, line and paragraph ends

Target = str | tuple[str, ...] | float


@dataclass(frozen=True)
class Columns:
    """Where texts and target stand.

    Attributes:
      texts: one or two column names (keys of a JSON object, features of a dataset)
      label: column of the target
      target: "class" is one name, "labels" any number of names, "number" a real value
      separator: between the names of a cell under "labels"; in JSON they are a list
    """

    texts: tuple[str, ...]
    label: str
    target: Literal["class", "labels", "number"] = "class"
    separator: str = ","


@dataclass(frozen=True, slots=True)
class Labelled:
    """texts: one or two; target: as `Columns.target` says; where: file and line."""

    texts: tuple[str, ...]
    target: Target
    where: str


def read_labelled(path: str, columns: Columns) -> list[Labelled]:
    """The labelled texts of one file, in order.

    Raises AlbertError, naming file and line: a column that is not there (those that are get listed), a row of another
    width than the header, an empty text, one of more than 200,000 characters or with a NUL, a label that is missing or
    of another kind; or a name that ends in none of .tsv, .csv, .jsonl (each also with .gz), or a file without rows.
    """
    kind = path.removesuffix(".gz").rpartition(".")[2]
    readers = {"tsv": _table, "csv": _table, "jsonl": _json_lines}
    if kind not in readers:
        raise AlbertError(f"{path}: labelled texts are read from .tsv, .csv and .jsonl files, or tfds:NAME")
    found = [make(f"{path}: line {number}", record, columns) for number, record in readers[kind](path, kind, columns)]
    if not found:
        raise AlbertError(f"{path}: no rows in it; give one labelled text a line")
    return found


def make(where: str, record: Mapping[str, Any], columns: Columns) -> Labelled:
    """A record's texts and target. Raises AlbertError, beginning with `where`, for what `read_labelled` names."""
    for name in (*columns.texts, columns.label):
        if name not in record:
            raise _no_column(where, name, list(record))
    texts = tuple(_text(where, name, record[name]) for name in columns.texts)
    value = record[columns.label]
    if columns.target == "number":
        return Labelled(texts, _number(where, columns.label, value), where)
    if columns.target == "labels":
        return Labelled(texts, _names(where, columns, value), where)
    return Labelled(texts, _name(where, columns.label, value), where)


# ---- files to records


def _table(path: str, kind: str, columns: Columns) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column name) of each row below the header; lines without anything are passed over."""
    header: list[str] | None = None
    for number, cells in _csv_rows(path) if kind == "csv" else _tsv_rows(path):
        if header is None:
            header = [cell.strip() for cell in cells]
            for name in (*columns.texts, columns.label):
                if name not in header:
                    raise _no_column(f"{path}: line {number}", name, header)
                if header.count(name) > 1:
                    raise AlbertError(f"{path}: line {number}: two columns are called {name!r}; rename one of them")
            continue
        if len(cells) != len(header):
            raise AlbertError(
                f"{path}: line {number}: {len(cells)} columns, the header has {len(header)} ({', '.join(header)}); "
                f"{'quote cells that hold a comma' if kind == 'csv' else 'a cell cannot hold a tab'}"
            )
        yield number, dict(zip(header, cells, strict=True))


def _tsv_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in numbered_lines(path, MAX_LINE_BYTES):
        if line.strip():
            yield number, line.split("\t")


def _csv_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    before = csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader((line + "\n" for _, line in numbered_lines(path, MAX_LINE_BYTES)), strict=True)
    number = 0
    try:
        for cells in rows:
            first, number = number + 1, rows.line_num
            if any(cells):
                yield first, cells
    except csv.Error as error:
        raise AlbertError(
            f"{path}: line {number + 1}: not CSV ({error}); close the quotes, double those inside"
        ) from error
    finally:
        csv.field_size_limit(before)


def _json_lines(path: str, kind: str, columns: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in numbered_lines(path, MAX_LINE_BYTES):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AlbertError(f"{path}: line {number}: not JSON ({error}); give one object a line") from error
        if not isinstance(record, dict):
            raise AlbertError(f"{path}: line {number}: a JSON object is needed, this is a {type(record).__name__}")
        yield number, record


# ---- cells


def _no_column(where: str, name: str, there: Sequence[str]) -> AlbertError:
    listed = ", ".join(other if other.isprintable() else repr(other) for other in there)
    return AlbertError(
        f"{where}: no column {name!r}; the columns are: {listed[:300]}; "
        "name them with --task.text-columns and --task.label-column"
    )


def _text(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise AlbertError(f"{where}: {name!r} is no text but {json.dumps(value)[:40]}; put it in quotes")
    if not value.strip():
        raise AlbertError(f"{where}: the text in {name!r} is empty; fill it or leave the line out")
    if len(value) > MAX_CHARACTERS:
        raise AlbertError(
            f"{where}: the text in {name!r} has {len(value):,} characters, more than {MAX_CHARACTERS:,}; "
            "close the quotation mark that runs on, or cut the text: only its first pieces are read"
        )
    if said := flaw(value):
        raise AlbertError(f"{where}: in {name!r}, {said}")
    return value


def _name(where: str, column: str, value: Any) -> str:
    if isinstance(value, bool):
        value = str(value).lower()
    if value is None or isinstance(value, (list, dict)):
        raise AlbertError(f"{where}: {column!r} is no class but {json.dumps(value)[:40]}; give one name")
    name = "" if isinstance(value, float) and not math.isfinite(value) else str(value).strip()
    if not name:
        raise AlbertError(f"{where}: the label in {column!r} is missing; fill it or leave the line out")
    if any(unicodedata.category(character) in _NOT_IN_NAMES for character in name):
        raise AlbertError(
            f"{where}: the label in {column!r} is {name[:40]!r}, with a line end or a control character in it; close "
            "the quotation mark that runs on, or give it another name"
        )
    return name


def _names(where: str, columns: Columns, value: Any) -> tuple[str, ...]:
    """The names without repetition, in order; a cell with none is a text without any label."""
    parts = value.split(columns.separator) if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise AlbertError(f"{where}: {columns.label!r} is no list of labels; give a JSON list or names with "
                          f"{columns.separator!r} between them")  # fmt: skip
    return tuple(dict.fromkeys(_name(where, columns.label, part) for part in parts if str(part).strip()))


def _number(where: str, column: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise AlbertError(f"{where}: the target in {column!r} is no number: {json.dumps(value)[:40]}")
    if abs(number) > MAX_NUMBER:
        raise AlbertError(f"{where}: the target in {column!r} is {number:g}; scale targets to at most {MAX_NUMBER:g}")
    return number
