"""Labelled texts from TSV, CSV, JSON and Parquet.

    text<TAB>label            Labelled(("Well made.",), "good", "train.tsv: line 2")
    Well made.<TAB>good

A .tsv has no quoting: a quotation mark is a character, as in the files of GLUE. A .csv is quoted by RFC 4180 and may
hold line ends inside quotes; between its cells stand commas, or what else separates the columns that are asked for in
its first line. Both begin with a line of column names, unless columns are asked for by number ("1", "2").
"""

import csv
import json
import math
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from albert_jax.data.text.lines import flaw, numbered_lines
from albert_jax.errors import AlbertError, refuse, retold

MAX_CHARACTERS = 200_000  # of one text; more is rather a quotation mark left open than a text
MAX_LINE_BYTES = 2**26
MAX_NUMBER = 1e30  # of a real target; what is larger leaves float32 in the loss
_NOT_IN_NAMES = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogate pairs, line and paragraph ends

Target = str | tuple[str, ...] | float


@dataclass(frozen=True)
class Columns:
    """Which columns hold the texts and the target."""

    # one or two names of columns, keys of a JSON object or features of a dataset; of a table without a header numbers
    texts: tuple[str, ...]
    label: str  # that of the target
    target: Literal["class", "labels", "number"] = "class"  # one name, any number of names, or a real value
    separator: str = ","  # between the names of a cell under "labels"; in JSON they are a list

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.texts, self.label)

    @property
    def numbered(self) -> bool:
        """Whether columns are asked for by number, from 1."""
        return all(name.isdecimal() for name in self.names)


@dataclass(frozen=True, slots=True)
class Labelled:
    """texts: one or two; target: as `Columns.target` says; where: file and line, record or row."""

    texts: tuple[str, ...]
    target: Target
    where: str


def read_labelled(path: str, columns: Columns) -> list[Labelled]:
    """The labelled texts of one file, in order.

    Raises AlbertError, naming file and line: a column that is missing (the others get listed), a row of another width
    than the header, an empty text, one of more than 200,000 characters or with a NUL, a label that is missing or of
    another kind; or a name that ends in none of .tsv, .csv, .jsonl, .json (each also with .gz) and .parquet, or a file
    without rows.
    """
    kind = path.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in _READERS:
        office = "; save the sheet as CSV" if kind in ("xlsx", "xls", "ods") else ""
        kinds = ".tsv, .csv, .jsonl, .json and .parquet files, or tfds:NAME"
        raise AlbertError(f"{path}: labelled texts are read from {kinds}{office}")
    found = [make(f"{path}: {where}", record, columns) for where, record in _READERS[kind](path, columns)]
    if not found:
        raise AlbertError(f"{path}: no rows in it; give one labelled text a line")
    return found


def make(where: str, record: Mapping[str, Any], columns: Columns) -> Labelled:
    """A record's texts and target. Raises AlbertError, beginning with `where`, for what `read_labelled` names."""
    refuse(f"{where}: {complaint}" for complaint in _flaws(record, columns))
    return Labelled(tuple(record[name] for name in columns.texts), _target(record[columns.label], columns), where)


# ---- files to records: (line, cells by column name) of each row

_Records = Iterator[tuple[str, dict[str, Any]]]


def _tsv(path: str, columns: Columns) -> _Records:
    lines = ((number, line.split("\t")) for number, line in numbered_lines(path, MAX_LINE_BYTES) if line.strip())
    return _table(path, lines, columns, "a cell cannot hold a tab")


def _csv(path: str, columns: Columns) -> _Records:
    separator = _separator(path, columns)
    return _table(path, _csv_rows(path, separator), columns, f"quote cells that hold a {_SEPARATORS[separator]}")


def _table(path: str, rows: Iterable[tuple[int, list[str]]], columns: Columns, advice: str) -> _Records:
    header: list[str] = []
    for number, cells in rows:
        if not header and columns.numbered and not {*columns.names} <= {cell.strip() for cell in cells}:
            header = [str(column) for column in range(1, len(cells) + 1)]
            refuse(f"{path}: line {number}: {complaint}" for complaint in _missing(header, columns))
        refuse(f"{path}: line {number}: {complaint}" for complaint in _row_flaws(header, cells, columns, advice))
        if header:
            yield f"line {number}", dict(zip(header, cells, strict=True))
        else:
            header = [cell.strip() for cell in cells]


def _row_flaws(header: list[str], cells: list[str], columns: Columns, advice: str) -> Iterator[str]:
    """What is wrong with a row, or with the header where there is none yet."""
    if not header:
        names = [cell.strip() for cell in cells]
        by_number = ", or by number (1, 2, ...) if this line is no header"
        yield from (flaw + by_number for flaw in _missing(names, columns))
        for name in columns.names:
            if names.count(name) > 1:
                yield f"two columns are called {name!r}; rename one of them"
    elif len(cells) != len(header):
        yield (
            f"{len(cells)} columns, the {'first line' if columns.numbered else 'header'} has {len(header)} "
            f"({', '.join(header)}); {advice}"
        )


_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def _separator(path: str, columns: Columns) -> str:
    """What stands between the cells of a CSV file: that by which its first line has the columns that are asked for, or
    as many of them; a comma in doubt."""
    first = next((line for _, line in numbered_lines(path, MAX_LINE_BYTES) if line.strip()), "")
    for separator in _SEPARATORS:
        # Not strict: a header that is not CSV is told when the rows are read.
        cells = [cell.strip() for cell in next(csv.reader([first], delimiter=separator), [])]
        if {*columns.names} <= {*cells} or (columns.numbered and len(cells) >= max(map(int, columns.names))):
            return separator
    return ","


def _csv_rows(path: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    before = csv.field_size_limit(MAX_LINE_BYTES)  # of the whole process, so it is set back
    # strict: a quotation mark that is not closed is an error, and does not swallow the rest of the file as one cell.
    lines = (line + "\n" for _, line in numbered_lines(path, MAX_LINE_BYTES))
    rows = csv.reader(lines, strict=True, delimiter=separator)
    number = 0  # lines read so far: a row may have several
    advice = "close the quotes, double those inside"
    try:
        with retold(lambda message: f"{path}: line {number + 1}: not CSV ({message}); {advice}", csv.Error):
            for cells in rows:
                first, number = number + 1, rows.line_num
                if any(cells):
                    yield first, cells
    finally:
        csv.field_size_limit(before)


def _json_lines(path: str, columns: Columns) -> _Records:
    number, advice = 0, "give one object a line"
    with retold(lambda message: f"{path}: line {number}: not JSON ({message}); {advice}", ValueError, RecursionError):
        for number, line in numbered_lines(path, MAX_LINE_BYTES):
            if not line.strip():
                continue
            record = json.loads(line)
            if not isinstance(record, dict):
                needed = f"a JSON object is needed, this is a {type(record).__name__}"
                hint = "; name a file that is one array *.json" if isinstance(record, list) else ""
                raise AlbertError(f"{path}: line {number}: {needed}{hint}")
            yield f"line {number}", record


def _json(path: str, columns: Columns) -> _Records:
    """One array of objects, or lines of objects, as both are called so."""
    lines = [line for _, line in numbered_lines(path, MAX_LINE_BYTES)]
    if not next((line for line in lines if line.strip()), "").lstrip().startswith("["):
        yield from _json_lines(path, columns)
        return
    advice = "give an array of objects, or an object a line"
    with retold(lambda message: f"{path}: not JSON ({message}); {advice}", ValueError, RecursionError):
        records = json.loads("\n".join(lines))
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise AlbertError(f"{path}: record {number}: a JSON object is needed, this is a {type(record).__name__}")
        yield f"record {number}", record


def _parquet(path: str, columns: Columns) -> _Records:
    advice = "pip install pyarrow, or write the table as JSON lines"
    with retold(lambda _: f"{path}: reading Parquet needs pyarrow; {advice}", ImportError):
        import pyarrow.parquet
    # pyarrow's own errors are ValueErrors and OSErrors.
    with retold(lambda message: f"{path}: not Parquet ({message[:100]}); copy it again", ValueError, OSError):
        file = pyarrow.parquet.ParquetFile(path)
        refuse(f"{path}: {complaint}" for complaint in _missing(file.schema_arrow.names, columns))
        number = 0
        for batch in file.iter_batches(columns=list(columns.names)):
            for record in batch.to_pylist():
                number += 1
                yield f"row {number}", record


_READERS: dict[str, Callable[[str, Columns], _Records]] = {
    "tsv": _tsv, "csv": _csv, "jsonl": _json_lines, "json": _json, "parquet": _parquet,
}  # fmt: skip


# ---- what cells say


def _target(value: Any, columns: Columns) -> Target:
    if columns.target == "labels":
        return tuple(dict.fromkeys(map(_name, _parts(value, columns.separator) or ())))
    return _number(value) if columns.target == "number" else _name(value)


def _name(value: Any) -> str:
    """A class by its name; "" where there is none."""
    if isinstance(value, bool):
        return str(value).lower()  # as JSON writes it
    return "" if isinstance(value, float) and not math.isfinite(value) else str(value).strip()


def _parts(value: Any, separator: str) -> list[Any] | None:
    """The names of a cell that holds any number of them; None where it is no list."""
    parts = value.split(separator) if isinstance(value, str) else value
    return [part for part in parts if str(part).strip()] if isinstance(parts, list) else None


def _number(value: Any) -> float:
    """The number of a cell; NaN where there is none."""
    # Python's float also reads True and "1_000": a column of flags or of formatted text is rather a mistake.
    try:
        return math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


# ---- what is wrong with a record


def _flaws(record: Mapping[str, Any], columns: Columns) -> Iterator[str]:
    yield from _missing(record, columns)
    for name in columns.texts:
        yield from _text_flaws(name, record[name])
    column, value = columns.label, record[columns.label]
    if columns.target == "number":
        yield from _number_flaws(column, value)
    elif columns.target == "class":
        yield from _name_flaws(column, value)
    elif (parts := _parts(value, columns.separator)) is None:
        yield f"{column!r} is no list of labels; give a JSON list or names with {columns.separator!r} between them"
    else:
        for part in parts:
            yield from _name_flaws(column, part)


def _missing(names: Collection[str], columns: Columns) -> Iterator[str]:
    for name in columns.names:
        if name not in names:
            listed = ", ".join(other if other.isprintable() else repr(other) for other in names)
            yield (
                f"no column {name!r}; the columns are: {listed[:300]}; "
                "name them with --task.text-columns and --task.label-column"
            )


def _text_flaws(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{name!r} is no text but {json.dumps(value)[:40]}; put it in quotes"
    if not value.strip():
        yield f"the text in {name!r} is empty; fill it or leave the line out"
    if len(value) > MAX_CHARACTERS:
        yield (
            f"the text in {name!r} has {len(value):,} characters, more than {MAX_CHARACTERS:,}; "
            "close the quotation mark that runs on, or cut the text: only its first pieces are read"
        )
    if what := flaw(value):
        yield f"in {name!r}, {what}"


def _name_flaws(column: str, value: Any) -> Iterator[str]:
    # A number may be the name of a class, as 0 and 1 are; None would become the class "None".
    if value is None or isinstance(value, (list, dict)):
        yield f"{column!r} is no class but {json.dumps(value)[:40]}; give one name"
    name = _name(value)
    if not name:
        yield f"the label in {column!r} is missing; fill it or leave the line out"
    if any(unicodedata.category(character) in _NOT_IN_NAMES for character in name):
        yield (
            f"the label in {column!r} is {name[:40]!r}, with a line end or a control character in it; close "
            "the quotation mark that runs on, or give it another name"
        )


def _number_flaws(column: str, value: Any) -> Iterator[str]:
    number = _number(value)
    if not math.isfinite(number):
        yield f"the target in {column!r} is no number: {json.dumps(value)[:40]}"
    if abs(number) > MAX_NUMBER:
        yield f"the target in {column!r} is {number:g}; scale targets to at most {MAX_NUMBER:g}"
