"""Tagged sentences from CoNLL columns: a word a line, its tag in the last column, a blank line after each sentence.

    EU NNP I-NP I-ORG          Sentence(("EU", "rejects"), ("B-ORG", "O"), "train.conll: line 1")
    rejects VBZ I-VP O

Tags may follow IOB1, IOB2 or BIOES; each file is read by the scheme that its tags obey, and given as IOB2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from albert_jax.data.text.lines import numbered_lines
from albert_jax.errors import AlbertError, refuse

OUTSIDE = "O"
DOCUMENT_MARK = "-DOCSTART-"
MAX_WORD = 10_000  # characters; a longer one is a file with broken lines
MAX_LINE_BYTES = 2**24  # so that a word that is too long is reported as such


@dataclass(frozen=True, slots=True)
class Sentence:
    """words: as the file has them; tags: one a word, IOB2; where: file and line of the first word."""

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

    Raises AlbertError, naming file and line: a line with more or fewer columns than the first, a tag that is none,
    tags of mixed schemes, a word of more than 10,000 characters, a NUL; or a file without sentences, or one that
    cannot be read.
    """
    # Whole, because only all tags of a file show which scheme they obey.
    sentences = _rows(path)
    if not sentences:
        raise AlbertError(f"{path}: no sentences in it; give a word and its tag a line, a blank line between sentences")
    is_bioes = any(row.prefix in ("E", "S") for rows in sentences for row in rows)
    flaws = _bioes_flaws if is_bioes else _iob_flaws
    refuse(f"{path}: line {complaint}" for complaint in flaws(sentences))
    return [
        Sentence(tuple(row.word for row in rows), _iob2(rows, is_bioes), f"{path}: line {rows[0].line}")
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
    for position, tag in enumerate([*tags, OUTSIDE]):
        if tag == OUTSIDE and not before:  # most words of most texts
            continue
        prefix, _, kind = tag.partition("-")
        if before and (prefix != "I" or kind != before):
            found.append((before, start, position))
            before = ""
        if kind and not before:
            before, start = kind, position
    return found


# ---- lines


def _rows(path: str) -> list[list[_Row]]:
    sentences: list[list[_Row]] = [[]]
    columns = first = 0
    for number, line in numbered_lines(path, MAX_LINE_BYTES):
        # By tabs or spaces and not by white space at large: a word may hold a no-break space or a line separator.
        cells = [cell for cell in (cell.strip(" ") for cell in line.split("\t" if "\t" in line else " ")) if cell]
        if not cells or cells[0].startswith(DOCUMENT_MARK):
            sentences.append([])
            continue
        columns, first = columns or len(cells), first or number
        refuse(f"{path}: line {number}: {complaint}" for complaint in _line_flaws(line, cells, columns, first))
        prefix, _, kind = cells[-1].partition("-")
        sentences[-1].append(_Row(cells[0], prefix, kind, number))
    return [rows for rows in sentences if rows]


def _line_flaws(line: str, cells: list[str], columns: int, first: int) -> Iterator[str]:
    """`columns`: how many there are in line `first`, the first with any."""
    if len(cells) < 2:
        yield f"one column ({_short(line)}); a word and its tag are needed, separated by a space or a tab"
    if len(cells) != columns:
        few = "few" if len(cells) < columns else "many"
        yield (
            f"too {few} columns, {len(cells)} where line {first} has {columns} ({_short(line)}); "
            "give every line the word first and the tag last"
        )
    word, tag = cells[0], cells[-1]
    if len(word) > MAX_WORD:
        yield f"a word of {len(word):,} characters, more than {MAX_WORD:,}; give one word a line"
    prefix, _, kind = tag.partition("-")
    if tag != OUTSIDE and (prefix not in ("B", "I", "E", "S") or not kind or not kind.isprintable()):
        yield f"{_short(tag)} is no tag; the last column must be O, or B-, I-, E- or S- and a type"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


# ---- schemes: an E- or S- is BIOES, anything else one of IOB


def _iob2(rows: list[_Row], is_bioes: bool) -> tuple[str, ...]:
    # IOB1 writes B- only between two entities of one type, IOB2 at every first word: both say the same once a first
    # word has its B-, so they need not be told apart. In BIOES, S- is an entity of one word.
    tags = []
    for before, row in zip([None, *rows], rows, strict=False):
        begins = row.prefix in ("B", "S") or (not is_bioes and (before is None or before.kind != row.kind))
        tags.append(f"{'B' if begins else 'I'}-{row.kind}" if row.kind else OUTSIDE)
    return tuple(tags)


def _iob_flaws(sentences: list[list[_Row]]) -> Iterator[str]:
    """Where IOB1 and IOB2 are mixed: entities begin with I- in the one, with B- in the other."""
    begun_by: dict[str, _Row] = {}
    for rows in sentences:
        for before, row in zip([None, *rows], rows, strict=False):
            # A B- after a word of its own type is no evidence: both schemes write it.
            if row.kind and (before is None or before.kind != row.kind):
                begun_by.setdefault(row.prefix, row)
    if len(begun_by) == 2:
        inside, begin = begun_by["I"], begun_by["B"]
        yield (
            f"{inside.line}: {inside.tag} of {_short(inside.word)} continues nothing (I- after O or "
            f"another type), but line {begin.line} begins an entity with {begin.tag}: IOB1 and IOB2 are mixed; "
            f"make it B-{inside.kind}, or use one scheme"
        )


def _bioes_flaws(sentences: list[list[_Row]]) -> Iterator[str]:
    # Both neighbours are asked: an entity must be opened before it goes on, and ended before another begins.
    nothing = _Row("", OUTSIDE, "", 0)
    for rows in sentences:
        for before, row, after in zip([nothing, *rows], rows, [*rows[1:], nothing], strict=False):
            wrong = ""
            if row.prefix in ("I", "E") and not (before.prefix in ("B", "I") and before.kind == row.kind):
                wrong = f"continues nothing (after {before.tag})"
            elif row.prefix in ("B", "I") and not (after.prefix in ("I", "E") and after.kind == row.kind):
                wrong = f"is not ended by E-{row.kind}"
            if wrong:
                yield (
                    f"{row.line}: {row.tag} of {_short(row.word)} {wrong}, but other tags of the file are of "
                    "BIOES: schemes are mixed; use one"
                )
