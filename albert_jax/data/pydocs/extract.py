"""A corpus that needs no download: the English of the docstrings of the packages installed here.

    installed sources -> `sources` docstrings -> `blocks` paragraphs -> `inline` sentences -> here: each sentence once
    -> a `Document` a module for pretraining, labelled `Paragraph`s for fine-tuning

What comes out depends on the environment alone: same packages in the same versions, same text in the same order.
`python -m benchmarks.pydocs` prints the counts of every package and some paragraphs.
"""

import concurrent.futures
import hashlib
import itertools
import multiprocessing
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_jax.data.pydocs.blocks import paragraphs
from albert_jax.data.pydocs.inline import sentences
from albert_jax.data.pydocs.paragraphs import Paragraph
from albert_jax.data.pydocs.sources import docstrings, sources
from albert_jax.data.store.documents import Document

MIN_PACKAGE_WORDS = 1_000  # a package with fewer is left out when the caller names none


@dataclass(frozen=True)
class Module:
    """The English of one source file: paragraphs of sentences in source order, code between single back quotes."""

    name: str
    package: str
    paragraphs: tuple[tuple[str, ...], ...]

    @property
    def words(self) -> int:
        """Words by white space."""
        return sum(sentence.count(" ") + 1 for paragraph in self.paragraphs for sentence in paragraph)

    def document(self) -> Document:
        """All sentences of the module in order, plain text."""
        plain = (sentence.replace("`", "") for paragraph in self.paragraphs for sentence in paragraph)
        return Document(sentences=tuple(plain), name=self.name, label=self.package)

    def labelled_paragraphs(self, min_words: int) -> Iterator[Paragraph]:
        """The module's paragraphs of at least `min_words` words."""
        for paragraph in self.paragraphs:
            text, mentions = unquote(" ".join(paragraph))
            if text.count(" ") + 1 >= min_words:
                yield Paragraph(text, self.package, self.name, mentions)


def read_modules(packages: Sequence[str] | None = None, workers: int = 1) -> Iterator[Module]:
    """The English of installed packages, one `Module` a source file that has any; sorted by package and name.

    A sentence is kept where it comes first; later ones that differ from it only in code, digits or punctuation are
    dropped, over all packages.

    `packages` are distribution or import names ("scikit-learn", "sklearn"), "python" for the standard library; None
    takes every installed package with at least 1,000 words. Any number of `workers`, processes that parse, gives the
    same modules.

    Raises AlbertError for a package that is not installed.
    """
    files = sources(packages)
    # Without repeated sentences there is no boilerplate, and a test split shares no sentence with the train split.
    seen: set[bytes] = set()
    # A package that hardly documents anything would be a class of a few paragraphs. Whoever names it wants it.
    minimum = 0 if packages is not None else MIN_PACKAGE_WORDS
    texts = _read_all([file.path for file in files], workers)
    for _, group in itertools.groupby(zip(files, texts, strict=True), key=lambda pair: pair[0].package):
        kept = [Module(file.name, file.package, _first_occurrences(text, seen)) for file, text in group]
        modules = [module for module in kept if module.paragraphs]
        if sum(module.words for module in modules) >= minimum:
            yield from modules


def unquote(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Text with code between single back quotes -> text without them, and the spans of what stood between.

    "Give `x` or `y`." -> ("Give x or y.", ((5, 6), (10, 11)))
    """
    parts = text.split("`")
    spans = []
    at = 0
    # Quotes come in pairs, so every second part was between two.
    for number, part in enumerate(parts):
        if number % 2 and part:
            spans.append((at, at + len(part)))
        at += len(part)
    return "".join(parts), tuple(spans)


def _read_all(paths: list[str], workers: int) -> Iterator[list[tuple[str, ...]]]:
    if workers <= 1:
        yield from map(_read_file, paths)
        return
    # Spawned, not forked: the caller may have started JAX, whose threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_read_file, paths, chunksize=32)


def _read_file(path: str) -> list[tuple[str, ...]]:
    try:
        code = Path(path).read_bytes()
    except OSError:
        return []  # a distribution's record may list files since removed
    return [paragraph for docstring in docstrings(code) for paragraph in english(docstring)]


def english(docstring: str) -> list[tuple[str, ...]]:
    """The paragraphs of one docstring as tuples of sentences, code between single back quotes."""
    return [found for found in map(tuple, map(sentences, paragraphs(docstring))) if found]


_CODE = re.compile(r"`[^`]*`")
_NOT_LETTERS = re.compile(r"[^a-z`\x80-\U0010ffff]+")


def _first_occurrences(text: Iterable[tuple[str, ...]], seen: set[bytes]) -> tuple[tuple[str, ...], ...]:
    """`text` without the sentences met before; `seen` holds the hash of every sentence's letters, code masked."""

    def is_new(sentence: str) -> bool:
        # Eight bytes a sentence instead of its text: a few million sentences are read.
        letters = _NOT_LETTERS.sub(" ", _CODE.sub("`", sentence).lower()).strip()
        key = hashlib.blake2b(letters.encode(), digest_size=8).digest()
        known = key in seen
        seen.add(key)
        return not known

    kept = (tuple(filter(is_new, paragraph)) for paragraph in text)
    return tuple(paragraph for paragraph in kept if paragraph)
