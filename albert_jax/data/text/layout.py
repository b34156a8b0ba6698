"""Lines of plain text to documents: two layouts, and how they are told apart.

sentences: one sentence a line; a blank line ends the document (the layout of BERT's and ALBERT's own tools).
paragraphs: a block of lines ended by a blank line. If any line of the block is longer than 100 characters
every
    line of it is a paragraph, else the lines were wrapped and the block is one paragraph. Paragraphs are
    split into sentences (`data/sentences.py`). Two blank lines, or the end of the file, end the document.
auto: decided for each file from its first 64 KiB. It is `paragraphs` when at least 3 in 10 lines hold the
end of
    a sentence and the beginning of another, or when its lines look wrapped: at least 1 in 10 is like that,
    fewer than half end a sentence, 9 in 10 have at most 100 characters, and blocks have 2 lines or more on
    average. Otherwise it is `sentences`.

In either layout a document of more than 65,536 characters is divided where a sentence or a paragraph ends,
so that one file without blank lines neither fills the memory nor falls into one split.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from albert_jax.data.text.sentences import split_sentences
from albert_jax.errors import AlbertError

Layout = Literal["auto", "sentences", "paragraphs"]

MAX_DOCUMENT_CHARACTERS = 2**16
_WRAPPED = 100  # characters: longer lines were not wrapped by hand or by an editor
_ENDS_SENTENCE = re.compile(r"[.!?…:;。！？]['\"”’»)\]」』）]*$")
_HOLDS_SENTENCE_END = re.compile(r"[.!?…]['\"”’»)\]]*\s+['\"“‘«(\[]*[^\W\d_a-z]|[。！？][^\s」』）”]")


def check_layout(layout: str) -> None:
    """Raises AlbertError unless `layout` is one of the three."""
    if layout not in get_args(Layout):
        raise AlbertError(f"layout {layout!r}: the layouts are {', '.join(get_args(Layout))}")


def detect_layout(lines: Iterable[str]) -> Literal["sentences", "paragraphs"]:
    """The layout of a file that begins with `lines`, by the rule at the head of this module."""
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
    wrapped = several >= 0.1 and ending < 0.5 and short >= 0.9 and len(filled) >= 2 * blocks
    return "paragraphs" if several >= 0.3 or wrapped else "sentences"


def sentence_lines(batches: Iterable[list[str]]) -> Iterator[tuple[str, ...]]:
    """Documents, each its sentences, from batches of lines in the `sentences` layout."""
    sentences: list[str] = []
    characters = 0
    for lines in batches:
        for line in lines:
            if line and not line.isspace():
                sentences.append(line)
                characters += len(line)
                if characters < MAX_DOCUMENT_CHARACTERS:
                    continue
            if sentences:
                yield tuple(sentences)
                sentences = []
                characters = 0
    if sentences:
        yield tuple(sentences)


def paragraph_lines(batches: Iterable[list[str]]) -> Iterator[tuple[str, ...]]:
    """Documents, each its sentences, from batches of lines in the `paragraphs` layout."""
    sentences: list[str] = []
    block: list[str] = []
    characters = blanks = 0
    for lines in batches:
        for line in lines:
            if line and not line.isspace():
                blanks = 0
                block.append(line)
                characters += len(line)
                if characters < MAX_DOCUMENT_CHARACTERS:
                    continue
            else:
                blanks += 1
            sentences += _block_sentences(block)
            block.clear()
            if sentences and (blanks >= 2 or characters >= MAX_DOCUMENT_CHARACTERS):
                yield tuple(sentences)
                sentences = []
                characters = 0
    sentences += _block_sentences(block)
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
    for line in text.splitlines():
        if line and not line.isspace():
            block.append(line)
        elif block:
            sentences += _block_sentences(block)
            block.clear()
    return tuple(sentences + _block_sentences(block))


def _block_sentences(block: list[str]) -> list[str]:
    if not block:
        return []
    if any(len(line) > _WRAPPED for line in block):
        return [sentence for line in block for sentence in split_sentences(line)]
    return split_sentences(" ".join(block))
