"""Tagged sentences from columns: a word a line, its tag in one of them, a blank line after each sentence.

    EU NNP I-NP I-ORG          Sentence(("EU", "rejects"), ("B-ORG", "O"), "train.conll: line 1", "IOB1")
    rejects VBZ I-VP O

Tags are entities or plain. Those of entities may follow IOB1, IOB2, BIOES, BILOU or BMES; each file is read by the
scheme that its tags obey, and given as IOB2. Plain ones, such as parts of speech, are given as they are. A file named
.conllu is CoNLL-U (https://universaldependencies.org/format.html): ten columns, of which UPOS is read.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from albert_jax.data.text.lines import numbered_lines
from albert_jax.errors import AlbertError, refuse

OUTSIDE = "O"
PLAIN = "plain"  # as a scheme: tags are no entities
DOCUMENT_MARK = "-DOCSTART-"
MAX_WORD = 10_000  # characters; a longer one is a file with broken lines
MAX_LINE_BYTES = 2**24  # so that a word that is too long is reported as such
MAX_TAGS = 1_000  # different plain ones; more are words or numbers of another column
# What each prefix says; those of other schemes are further names for the same four.
_ROLES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}
_UNIVERSAL = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")  # columns of CoNLL-U
_NO_WORD = re.compile(r"\d+-\d+|\d+\.\d+")  # IDs of what is no word: a range that is written as one, an empty node


@dataclass(frozen=True, slots=True)
class Sentence:
    """words: as the file has them; tags: one a word, IOB2 or plain; where: file and line of the first word; scheme: of
    the file's own tags."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str
    scheme: str = "IOB2"


@dataclass(frozen=True, slots=True)
class _Row:
    word: str
    tag: str  # as the file has it
    line: int

    @property
    def role(self) -> str:
        """B, I, E, S; O outside."""
        return _ROLES[self.tag[0]] if self.kind else OUTSIDE

    @property
    def kind(self) -> str:
        """ "PER"; "" outside."""
        return self.tag[2:] if is_of_entity(self.tag) else ""


def is_of_entity(tag: str) -> bool:
    """Whether a tag is that of a word of an entity, such as B-PER."""
    # No type begins with a hyphen, but a positional part of speech may look so: "S----3MS1-".
    return len(tag) > 2 and tag[0] in _ROLES and tag[1] == "-" and tag[2] != "-"


def read_conll(path: str, column: str = "") -> list[Sentence]:
    """The sentences of one file, in order, tags of entities in IOB2.

    Columns are separated by tabs where a line has one, else by spaces. Lines that begin with -DOCSTART- end a document
    and are no sentence. Line ends are LF or CRLF. A name that ends in .gz is decompressed. Of CoNLL-U (.conllu)
    comments, ranges of words that are written as one (1-2) and empty nodes (1.1) are passed over.

    `column` is where the tag stands: a number from 1, empty for the last; of CoNLL-U a name such as XPOS, empty for
    UPOS.

    Raises AlbertError, naming file and line: a line with more or fewer columns than the first, a tag that is none,
    tags of mixed schemes, a word of more than 10,000 characters, a NUL; or a file without sentences, or one that
    cannot be read.
    """
    # Whole, because only all tags of a file show which scheme they obey.
    is_universal = path.removesuffix(".gz").endswith(".conllu")
    refuse(f"{path}: {complaint}" for complaint in _column_flaws(column, is_universal))
    sentences = _universal_rows(path, column) if is_universal else _rows(path, column)
    if not sentences:
        raise AlbertError(f"{path}: no sentences in it; give a word and its tag a line, a blank line between sentences")
    scheme = _scheme(sentences)
    flaws = _plain_flaws if scheme == PLAIN else _iob_flaws if scheme.startswith("IOB") else _bioes_flaws
    refuse(f"{path}: {complaint}" for complaint in flaws(sentences))
    return [
        Sentence(tuple(row.word for row in rows), _given(rows, scheme), f"{path}: line {rows[0].line}", scheme)
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


def _rows(path: str, column: str) -> list[list[_Row]]:
    sentences: list[list[_Row]] = [[]]
    columns = first = 0
    for number, line in numbered_lines(path, MAX_LINE_BYTES):
        # By tabs or spaces and not by white space at large: a word may hold a no-break space or a line separator.
        cells = [cell for cell in (cell.strip(" ") for cell in line.split("\t" if "\t" in line else " ")) if cell]
        if not cells or cells[0].startswith(DOCUMENT_MARK):
            sentences.append([])
            continue
        columns, first = columns or len(cells), first or number
        refuse(f"{path}: line {number}: {complaint}" for complaint in _line_flaws(line, cells, column, columns, first))
        sentences[-1].append(_Row(cells[0], cells[int(column or len(cells)) - 1], number))
    return [rows for rows in sentences if rows]


def _universal_rows(path: str, column: str) -> list[list[_Row]]:
    sentences: list[list[_Row]] = [[]]
    at = _UNIVERSAL.index(column.upper() or "UPOS")
    for number, line in numbered_lines(path, MAX_LINE_BYTES):
        if not line.strip():
            sentences.append([])
        elif not line.startswith("#"):
            cells = line.split("\t")
            due = len(sentences[-1]) + 1
            refuse(f"{path}: line {number}: {complaint}" for complaint in _universal_flaws(line, cells, at, due))
            if not _NO_WORD.fullmatch(cells[0]):
                sentences[-1].append(_Row(cells[1], cells[at], number))
    return [rows for rows in sentences if rows]


def _column_flaws(column: str, is_universal: bool) -> Iterator[str]:
    names = _UNIVERSAL[2:]
    if is_universal and column and column.upper() not in names:
        yield f"CoNLL-U has no tags in {column!r}; give task.tag_column {', '.join(names)}, or nothing for UPOS"
    if not is_universal and column and not (column.isascii() and column.isdigit() and int(column) > 1):
        yield (
            f"task.tag_column is {column!r}; give the number of the column, from 2 on (the first is the word), or "
            "nothing for the last; names are those of CoNLL-U, in files named .conllu"
        )


def _line_flaws(line: str, cells: list[str], column: str, columns: int, first: int) -> Iterator[str]:
    """`columns`: how many there are in line `first`, the first with any."""
    if len(cells) < 2:
        yield f"one column ({_short(line)}); a word and its tag are needed, separated by a space or a tab"
    if len(cells) != columns:
        few = "few" if len(cells) < columns else "many"
        yield (
            f"too {few} columns, {len(cells)} where line {first} has {columns} ({_short(line)}); "
            "give every line the word first and the tag last"
        )
    if column and int(column) > len(cells):
        yield f"no column {column} but {len(cells)} ({_short(line)}); give another task.tag_column"
    yield from _cell_flaws(cells[0], cells[int(column or len(cells)) - 1])


def _universal_flaws(line: str, cells: list[str], at: int, due: int) -> Iterator[str]:
    """`due`: the ID of the next word."""
    if len(cells) != len(_UNIVERSAL):
        yield f"{len(cells)} columns ({_short(line)}); CoNLL-U has ten, with tabs between them"
    if _NO_WORD.fullmatch(cells[0]):
        return
    if cells[0] != str(due):
        yield f"the ID {_short(cells[0])} where {due} is due; number the words of each sentence from 1"
    if cells[at] == "_":
        yield f"{_UNIVERSAL[at]} of {_short(cells[1])} is empty; give a file that has it, or another task.tag_column"
    yield from _cell_flaws(cells[1], cells[at])


def _cell_flaws(word: str, tag: str) -> Iterator[str]:
    if len(word) > MAX_WORD:
        yield f"a word of {len(word):,} characters, more than {MAX_WORD:,}; give one word a line"
    if not tag.isprintable() or not tag or (tag[0] in _ROLES and tag[1:] == "-"):
        yield f"{_short(tag)} is no tag; give O, B-, I-, E- or S- and a type, or a plain tag without these"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


# ---- schemes


def _scheme(sentences: list[list[_Row]]) -> str:
    """What the tags of a file obey: any of entities makes it one of their schemes, any E- or S- one with ends."""
    prefixes = {row.tag[0] for rows in sentences for row in rows if row.kind}
    if not prefixes:
        return "IOB2" if all(row.tag == OUTSIDE for rows in sentences for row in rows) else PLAIN
    if prefixes & {"L", "U"}:
        return "BILOU"
    if "M" in prefixes:
        return "BMES"
    if prefixes & {"E", "S"}:
        return "BIOES"
    return "IOB1" if any(row.role == "I" and _begins(before, row) for before, row in _pairs(sentences)) else "IOB2"


def _pairs(sentences: list[list[_Row]]) -> Iterator[tuple[_Row | None, _Row]]:
    """Each word with the one before it in its sentence."""
    for rows in sentences:
        yield from zip([None, *rows], rows, strict=False)


def _begins(before: _Row | None, row: _Row) -> bool:
    """Whether an entity begins here whatever the prefix says: there is none of its type before it."""
    return bool(row.kind) and (before is None or before.kind != row.kind)


def _given(rows: list[_Row], scheme: str) -> tuple[str, ...]:
    """The tags of a sentence as IOB2, or plain."""
    if scheme == PLAIN:
        return tuple(row.tag for row in rows)
    # IOB1 writes B- only between two entities of one type, IOB2 at every first word: both say the same once a first
    # word has its B-, so they need not be told apart. In BIOES, S- is an entity of one word.
    tags = []
    for before, row in _pairs([rows]):
        begins = row.role in ("B", "S") or (scheme.startswith("IOB") and _begins(before, row))
        tags.append(f"{'B' if begins else 'I'}-{row.kind}" if row.kind else OUTSIDE)
    return tuple(tags)


def _mixed_flaws(sentences: list[list[_Row]]) -> Iterator[str]:
    """Plain tags beside those of entities."""
    first = next(row for rows in sentences for row in rows if row.kind)
    for row in (row for rows in sentences for row in rows):
        if not row.kind and row.tag != OUTSIDE:
            yield (
                f"line {row.line}: {_short(row.tag)} is no tag of an entity, and {first.tag} in line {first.line} is "
                "one; give O, or B-, I-, E- or S- and a type, or plain tags alone"
            )


def _plain_flaws(sentences: list[list[_Row]]) -> Iterator[str]:
    tags = {row.tag for rows in sentences for row in rows}
    if tags == {"_"}:
        yield "every tag is '_'; name the file .conllu if it is CoNLL-U, or give task.tag_column"
    if len(tags) > MAX_TAGS:
        yield f"{len(tags):,} different tags, such as {_short(min(tags))}; give task.tag_column, the column of the tags"


def _iob_flaws(sentences: list[list[_Row]]) -> Iterator[str]:
    """Where IOB1 and IOB2 are mixed: entities begin with I- in the one, with B- in the other."""
    begun_by: dict[str, _Row] = {}
    for before, row in _pairs(sentences):
        # A B- after a word of its own type is no evidence: both schemes write it.
        if _begins(before, row):
            begun_by.setdefault(row.role, row)
    if begun_by:
        yield from _mixed_flaws(sentences)
    if len(begun_by) == 2:
        inside, begin = begun_by["I"], begun_by["B"]
        yield (
            f"line {inside.line}: {inside.tag} of {_short(inside.word)} continues nothing (I- after O or "
            f"another type), but line {begin.line} begins an entity with {begin.tag}: IOB1 and IOB2 are mixed; "
            f"make it B-{inside.kind}, or use one scheme"
        )


def _bioes_flaws(sentences: list[list[_Row]]) -> Iterator[str]:
    yield from _mixed_flaws(sentences)
    scheme = _scheme(sentences)
    foreign = {"BILOU": "ESM", "BMES": "I", "BIOES": ""}[scheme]
    # Both neighbours are asked: an entity must be opened before it goes on, and ended before another begins.
    nothing = _Row("", OUTSIDE, 0)
    for rows in sentences:
        for before, row, after in zip([nothing, *rows], rows, [*rows[1:], nothing], strict=False):
            wrong = ""
            if row.kind and row.tag[0] in foreign:
                wrong = "is of another scheme"
            elif row.role in ("I", "E") and not (before.role in ("B", "I") and before.kind == row.kind):
                wrong = f"continues nothing (after {before.tag})"
            elif row.role in ("B", "I") and not (after.role in ("I", "E") and after.kind == row.kind):
                wrong = f"is not ended by {'L' if scheme == 'BILOU' else 'E'}-{row.kind}"
            if wrong:
                yield (
                    f"line {row.line}: {row.tag} of {_short(row.word)} {wrong}, but other tags of the file are of "
                    f"{scheme}: schemes are mixed; use one"
                )
