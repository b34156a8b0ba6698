"""A model on its way between formats (`LoadedModel`), and what the reader of a format offers (`Source`)."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np

from albert_jax.data.text import tokenizers
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError
from albert_jax.interop.restored import Head
from albert_jax.model.config import AlbertConfig

Format = Literal["albert_jax", "hf", "tf1"]
Contents = tuple[dict[str, np.ndarray], Head | None, tuple[str, ...], str]  # params, head, labels, problem


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights in memory."""

    origin: str  # path or hub name that it came from
    format: Format  # that it came in
    config: AlbertConfig
    params: dict[str, np.ndarray]  # path -> float32 array, of the encoder and of every head in the source
    head: Head | None  # that the source names
    labels: tuple[str, ...]  # names of the classifier's classes by number; () where the source names none
    problem: str  # Hugging Face's problem_type, "" for none
    tokenizer: AnyTokenizer | None  # the vocabulary beside the weights, None where there is none


class Source(ABC):
    """A model on disk, opened once: its configuration is known, its vocabulary and weights are read when asked for.

    `load.source_at` chooses the subclass that reads a path, by `matches`, and opens it.
    """

    format: Format
    config: AlbertConfig
    vocabulary: Path | None  # file or directory of the vocabulary while the source is open, None where there is none
    vocab: Path  # path to keep, from which `tokenizers.load` reads the vocabulary, if there is one

    def __init__(self, path: Path, origin: str):
        self.path = path  # directory, archive or checkpoint prefix
        self.origin = origin  # path or hub name, as messages call it

    @classmethod
    @contextmanager
    def opened(cls, path: Path, origin: str) -> Iterator[Self]:
        """The source, open within the block, at whose end what was unpacked is removed."""
        yield cls(path, origin)

    @staticmethod
    @abstractmethod
    def matches(path: Path) -> bool:
        """Whether `path` is of this format, judged by which files exist."""

    @abstractmethod
    def _read(self) -> Contents:
        """What lies beside configuration and vocabulary. Raises AlbertError where it is damaged or incomplete."""

    # Cached: a run that starts from a model asks for its vocabulary before it asks for its weights.
    @cached_property
    def tokenizer(self) -> AnyTokenizer | None:
        """The vocabulary. Raises AlbertError where it is damaged."""
        return tokenizers.load(self.vocabulary) if self.vocabulary else None

    def load(self) -> LoadedModel:
        """The model with its weights.

        Raises AlbertError for weights that are missing or damaged, for parts that are not of one model, and for a
        vocabulary that is not as large as the word table.
        """
        params, head, labels, problem = self._read()
        # After the weights, whose shape is known to be the configuration's: so the vocabulary is the one that is wrong.
        pieces = self.tokenizer.vocab_size if self.tokenizer else self.config.vocab_size
        if pieces != self.config.vocab_size:
            sizes = f"its vocabulary has {pieces} pieces, its word table {self.config.vocab_size} rows"
            raise AlbertError(f"{self.origin}: {sizes}; put the vocabulary of this model beside it, or none")
        # Here layer i uses group i * G // L. Both originals compute it in floating point, which skips a group for a few
        # odd pairs, such as 22 layers in 22 groups; no released model has more than one group.
        L, G = self.config.layers, self.config.groups
        theirs = {"tf1": [int(i / L * G) for i in range(L)], "hf": [int(i / (L / G)) for i in range(L)]}
        if theirs.get(self.format, []) not in ([], [i * G // L for i in range(L)]):
            fact = f"with {L} layers in {G} groups its own program skips a group by rounding"
            warnings.warn(f"{self.origin}: {fact}, and this one does not: their numbers differ", stacklevel=2)
        return LoadedModel(self.origin, self.format, self.config, params, head, labels, problem, self.tokenizer)


def vocab_txt(tokenizer: WordPieceTokenizer) -> bytes:
    """The content of a `vocab.txt`, one piece a line, as Google's Chinese models and Hugging Face have it."""
    return "".join(f"{piece.strip()}\n" for piece in tokenizer.pieces(range(tokenizer.vocab_size))).encode()
