"""Labelled examples of a pydocs corpus, which needs no download: paragraphs by package, and code mentions in them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from albert_jax.data.labelled.conll import OUTSIDE, Sentence
from albert_jax.data.labelled.requests import word_spans
from albert_jax.data.labelled.tables import Labelled
from albert_jax.data.pydocs.names import blank_names
from albert_jax.data.pydocs.paragraphs import load_names, load_paragraphs
from albert_jax.errors import AlbertError
from albert_jax.tasks.files import stratified_sample

CODE = "CODE"  # type of a code mention


def packages(data: str, min_paragraphs: int, max_classes: int) -> tuple[str, ...]:
    """The packages that are classes: those with most training paragraphs. Raises AlbertError for fewer than two."""
    names, counts = np.unique([p.package for p in load_paragraphs(data, "train")], return_counts=True)
    ranked = sorted(zip(-counts, names, strict=True))
    found = [str(name) for count, name in ranked if -count >= min_paragraphs][:max_classes]
    if len(found) < 2:
        raise AlbertError(
            f"{data} has {len(found)} packages with at least {min_paragraphs} training paragraphs; "
            "two classes are needed: lower task.min_paragraphs or prepare more packages"
        )
    return tuple(sorted(found))


def by_package(
    data: str, split: str, labels: Sequence[str], count: int, seed: int
) -> tuple[list[Labelled], list[dict[str, Any]]]:
    """Paragraphs whose package is a label, the labels' names blanked in the text; and what to show of each.

    Raises AlbertError when the split has none.
    """
    paragraphs = load_paragraphs(data, split)
    paragraphs = stratified_sample(paragraphs, [p.package for p in paragraphs], labels, count, seed)
    if not paragraphs:
        raise AlbertError(f"{data} has no {split} paragraph of the classes {', '.join(labels)}")
    known = load_names(data)
    # Of a label that no package has there is nothing to blank: the task warns of it.
    names = sorted({name for label in labels for name in known.get(label, ())})
    records = [Labelled((blank_names(p.text, names),), p.package, p.module) for p in paragraphs]
    return records, [{"module": p.module, "text": p.text} for p in paragraphs]


def mentions(data: str, split: str, count: int, seed: int) -> list[Sentence]:
    """`count` paragraphs with at least one code mention, as words tagged B-CODE, I-CODE and O; 0: all there are.

    Words are those of `word_spans`; one is of a mention when they overlap.

    Raises AlbertError when the split has none.
    """
    paragraphs = [p for p in load_paragraphs(data, split) if p.mentions]
    if not paragraphs:
        raise AlbertError(f"{data} has no {split} paragraph with a code mention; prepare more packages")
    paragraphs = stratified_sample(paragraphs, [CODE] * len(paragraphs), [CODE], count, seed)
    return [Sentence(*tagged(p.text, p.mentions), p.module) for p in paragraphs]


def tagged(text: str, marked: Sequence[tuple[int, int]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words and tags of a text with [start, end) spans marked.

    >>> tagged("See np.sum.", [(4, 10)])
    (('See', 'np', '.', 'sum', '.'), ('O', 'B-CODE', 'I-CODE', 'I-CODE', 'O'))
    """
    words: list[str] = []
    tags: list[str] = []
    waiting = list(marked)
    begun = False
    for start, end in word_spans(text):
        while waiting and waiting[0][1] <= start:
            waiting.pop(0)
            begun = False
        inside = bool(waiting) and waiting[0][0] < end
        words.append(text[start:end])
        tags.append(f"{'I' if begun else 'B'}-{CODE}" if inside else OUTSIDE)
        begun = inside
    return tuple(words), tuple(tags)
