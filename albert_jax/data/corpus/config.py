"""The knobs of `prepare`."""

from dataclasses import dataclass
from typing import Any

from albert_jax.data.store.records import MAX_PIECES
from albert_jax.data.store.splits import split_of
from albert_jax.data.text.layout import Layout, check_layout
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.words import WordRule
from albert_jax.errors import AlbertError


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare, and how. Only `workers`, `runner` and `beam_options` leave the result as it is."""

    corpus: tuple[str, ...]
    """Text files, directories, globs (.txt, .jsonl, also .gz), tfds:NAME[:FEATURE],
    tfds:DIRECTORY[:FEATURE], or pydocs[:PACKAGE,PACKAGE] (docstrings of the installed packages; needs no
    download). Several may be given."""
    out: str
    """Directory to write. Giving the same command again continues it, or says that it is done."""
    vocab_size: int = 8000
    """Pieces of the vocabulary to train, 13 fixed ones included."""
    vocab: str | None = None
    """Use this vocabulary (directory, .model file or WordPiece vocab.txt) instead of training one."""
    vocab_sample_mb: float = 16.0
    """MiB of text to train the vocabulary on, spread evenly over the corpus. 16 MiB take 400 MiB of
    memory."""
    character_coverage: float = 0.99995
    """Share of the text's characters that get a piece of their own when training a vocabulary."""
    lower: bool = True
    """Lower-case the text, when training a vocabulary."""
    keep_accents: bool = False
    """Keep accents and other combining marks, when training a vocabulary."""
    word_rule: WordRule = "multilingual"
    """Which pieces start a word, for whole-word masking: all scripts, or the original's English-only rule."""
    layout: Layout = "auto"
    """Of text: `sentences` (one a line, blank line between documents), `paragraphs` (blank line between
    paragraphs, two between documents; split into sentences), or `auto` (decided for each file from its
    first 64 KiB)."""
    validation: float = 0.05
    """Share of documents to hold out for validation."""
    test: float = 0.05
    """Share of documents to hold out for testing."""
    max_document_pieces: int = 32_768
    """Pieces in one record, at most 65,535; longer documents are divided where a sentence ends, without
    loss."""
    shard_mb: float = 0.0
    """MiB of text in a shard, the unit of work; 0 = a 64th of the corpus, but 4 to 64 MiB."""
    allow_single_sentences: bool = False
    """Accept a corpus in which every document has one sentence: sentence order cannot be learned from it."""
    workers: int = 0
    """Processes; 0 = one a core."""
    runner: str = "local"
    """`local`, or an Apache Beam runner (DirectRunner, DataflowRunner, ...; extra `beam`) for corpora
    beyond one machine. Corpus and --out must then be on a file system that all machines see."""
    beam_options: tuple[str, ...] = ()
    """Options for the Beam runner, such as --direct_num_workers=4."""

    def made_from(self, digest: str, vocabulary: AnyTokenizer | None) -> dict[str, Any]:
        """What decides the bytes of the result: kept in prepared.json, compared when a run continues."""
        decisive = {
            "corpus": list(self.corpus),
            "corpus_digest": digest,
            "layout": self.layout,
            "validation": self.validation,
            "test": self.test,
            "max_document_pieces": self.max_document_pieces,
            "shard_mb": self.shard_mb,
        }
        if vocabulary is not None:
            return decisive | {"vocab": vocabulary.fingerprint}
        return decisive | {
            "vocab_size": self.vocab_size,
            "vocab_sample_mb": self.vocab_sample_mb,
            "character_coverage": self.character_coverage,
            "lower": self.lower,
            "keep_accents": self.keep_accents,
            "word_rule": self.word_rule,
        }

    def check(self) -> None:
        """Raises AlbertError for the first value that makes no sense."""
        check_layout(self.layout)
        if not self.corpus:
            raise AlbertError("no corpus: give --corpus a file, a directory, a glob, tfds:NAME or pydocs")
        split_of("", self.validation, self.test)  # raises when they are not shares
        if not 1 <= self.max_document_pieces <= MAX_PIECES:
            raise AlbertError(f"max_document_pieces {self.max_document_pieces}: give 1 to {MAX_PIECES:,}")
        if self.shard_mb < 0 or self.vocab_sample_mb <= 0 or self.workers < 0:
            raise AlbertError(
                f"shard_mb {self.shard_mb}, vocab_sample_mb {self.vocab_sample_mb}, workers {self.workers}:"
                " none may be negative, and vocab_sample_mb not zero"
            )
        if not 0.9 <= self.character_coverage <= 1.0:
            raise AlbertError(f"character_coverage {self.character_coverage}: give a share from 0.9 to 1")
