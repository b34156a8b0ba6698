"""Tagged sentences from CoNLL columns: a word a line, its tag in the last column, a blank line after each sentence.

    EU NNP I-NP I-ORG          Sentence(("EU", "rejects"), ("B-ORG", "O"), "train.conll: line 1")
    rejects VBZ I-VP O

Tags may follow IOB1, IOB2 or BIOES; each file is read by the scheme that its tags obey, and given as IOB2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from albert_jax.data.text.lines import numbered_lines
from albert_jax.errors import AlbertError

OUTSIDE = "O"
DOCUMENT_MARK = "-DOCSTART-"
MAX_WORD = 10_000  # characters; a longer one is a file with broken lines
MAX_LINE_BYTES = 2**24  # so that a word that is too long is told as such


@dataclass(frozen=True, slots=True)
class Sentence:
    """words: as they stand in the file; tags: one a word, IOB2; where: file and line of the first word."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class _Row:
    word: str
    prefix: str  # B, I, E, S, or O
    kind: str  # "PER"; "" outside
    line: int

    @property
    def tag(self) -> str:
        return f"{self.prefix}-{self.kind}" if self.kind else OUTSIDE


def read_conll(path: str) -> list[Sentence]:
    """The sentences of one file, in order, tags in IOB2.

    Columns are separated by tabs where a line has one, else by spaces. Lines that begin with -DOCSTART- end a document
    and are no sentence. Line ends are LF or CRLF. A name that ends in .gz is decompressed.

    Raises AlbertError, naming file and line: a line with more or fewer columns than the first, a tag that is none, tags
    of mixed schemes, a word of more than 10,000 characters, a NUL; or a file without
    sentences, or one that cannot be read.
    """
    sentences = _rows(path)
    if not sentences:
        raise AlbertError(f"{path}: no sentences in it; give a word and its tag a line, a blank line between sentences")
    to_iob2 = _scheme(path, sentences)
    return [
        Sentence(tuple(row.word for row in rows), tuple(to_iob2(path, rows)), f"{path}: line {rows[0].line}")
        for rows in sentences
    ]


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, word after the last) of each entity in IOB2 tags; an I- that continues nothing begins one, as
    in seqeval.

    >>> spans(["B-PER", "I-PER", "O", "I-LOC"])
    [('PER', 0, 2), ('LOC', 3, 4)]
    """
    found: list[tuple[str, int, int]] = []
    before, start = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        if tag == OUTSIDE and not before:
            continue
        prefix, _, kind = tag.partition("-")
        if before and (prefix != "I" or kind != before):
            found.append((before, start, place))
            before = ""
        if kind and not before:
            before, start = kind, place
    return found


# ---- lines


def _rows(path: str) -> list[list[_Row]]:
    sentences: list[list[_Row]] = [[]]
    columns = first = 0
    for number, line in numbered_lines(path, MAX_LINE_BYTES):
        separator = "\t" if "\t" in line else " "
        cells = [cell.strip(" ") for cell in line.split(separator)]
        cells = [cell for cell in cells if cell]
        if not cells or cells[0].startswith(DOCUMENT_MARK):
            sentences.append([])
            continue
        columns, first = columns or len(cells), first or number
        if len(cells) < 2:
            raise AlbertError(
                f"{path}: line {number}: one column ({_short(line)}); a word and its tag are needed, "
                "separated by a space or a tab"
            )
        if len(cells) != columns:
            few = "few" if len(cells) < columns else "many"
            raise AlbertError(
                f"{path}: line {number}: too {few} columns, {len(cells)} where line {first} has {columns} "
                f"({_short(line)}); give every line the word first and the tag last"
            )
        if len(cells[0]) > MAX_WORD:
            raise AlbertError(
                f"{path}: line {number}: a word of {len(cells[0]):,} characters, more than {MAX_WORD:,}; "
                "give one word a line"
            )
        sentences[-1].append(_row(path, number, cells[0], cells[-1]))
    return [rows for rows in sentences if rows]


def _row(path: str, number: int, word: str, tag: str) -> _Row:
    if tag == OUTSIDE:
        return _Row(word, OUTSIDE, "", number)
    prefix, _, kind = tag.partition("-")
    if prefix not in ("B", "I", "E", "S") or not kind or not kind.isprintable():
        raise AlbertError(
            f"{path}: line {number}: {_short(tag)} is no tag; the last column must be O, or B-, I-, E- or S- and a type"
        )
    return _Row(word, prefix, kind, number)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


# ---- schemes

Conversion = Callable[[str, list[_Row]], list[str]]


def _scheme(path: str, sentences: list[list[_Row]]) -> Conversion:
    """Which scheme the tags of a file obey, as the function that turns a sentence of it into IOB2.

    An E- or S- is BIOES. Else an entity that begins with I- is IOB1, one that begins with B- where none of its type
    ends is IOB2, and a file with both is neither.
    """
    ends = next((row for rows in sentences for row in rows if row.prefix in ("E", "S")), None)
    if ends:
        return _from_bioes
    begun_by: dict[str, _Row] = {}
    for rows in sentences:
        for before, row in zip([None, *rows], rows, strict=False):
            follows = before is not None and before.kind == row.kind
            if row.kind and not follows:
                begun_by.setdefault(row.prefix, row)
    if len(begun_by) == 2:
        inside, begin = begun_by["I"], begun_by["B"]
        raise AlbertError(
            f"{path}: line {inside.line}: {inside.tag} of {_short(inside.word)} continues nothing (I- after O or "
            f"another type), but line {begin.line} begins an entity with {begin.tag}: IOB1 and IOB2 are mixed; "
            f"make it B-{inside.kind}, or use one scheme"
        )
    return _from_iob


def _from_iob(path: str, rows: list[_Row]) -> list[str]:
    tags = []
    for before, row in zip([None, *rows], rows, strict=False):
        begins = row.prefix == "B" or before is None or before.kind != row.kind
        tags.append(f"{'B' if begins else 'I'}-{row.kind}" if row.kind else OUTSIDE)
    return tags


def _from_bioes(path: str, rows: list[_Row]) -> list[str]:
    last = _Row("", OUTSIDE, "", rows[-1].line)
    tags = []
    for before, row, after in zip([last, *rows], rows, [*rows[1:], last], strict=False):
        opened = before.prefix in ("B", "I") and before.kind == row.kind
        goes_on = after.prefix in ("I", "E") and after.kind == row.kind
        wrong = ""
        if row.prefix in ("I", "E") and not opened:
            wrong = f"continues nothing (after {before.tag})"
        elif row.prefix in ("B", "I") and not goes_on:
            wrong = f"is not ended by E-{row.kind}"
        if wrong:
            raise AlbertError(
                f"{path}: line {row.line}: {row.tag} of {_short(row.word)} {wrong}, but other tags of the file are of "
                "BIOES: schemes are mixed; use one"
            )
        tags.append(f"{'B' if row.prefix in ('B', 'S') else 'I'}-{row.kind}" if row.kind else OUTSIDE)
    return tags
