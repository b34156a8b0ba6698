"""The knobs of `prepare`, and the vocabulary that they name or that is trained with them."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from albert_jax.data.corpus import corpora
from albert_jax.data.store import paths
from albert_jax.data.store.documents import MAX_PIECES, split_of
from albert_jax.data.text.lines import Layout
from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer, load
from albert_jax.data.text.vocabulary import WordRule
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError, refuse
from albert_jax.fields import knob

_SAMPLE_DOCUMENTS = 1_000  # if all of so many have one sentence, the whole corpus is like that


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare, and how. Only `workers`, `runner` and `beam_options` leave the result as it is."""

    # Text files, directories, globs (.txt, .jsonl, also .gz), tfds:NAME[:FEATURE], tfds:DIRECTORY[:FEATURE],
    # pydocs[:PACKAGE,PACKAGE] (docstrings of the installed packages; needs no download), debian:PACKAGE[,PACKAGE] or
    # debian:TABLE.tsv (text of a Debian-like system's packages; downloads, installs nothing). Several may be given.
    corpus: tuple[str, ...]
    out: str  # Directory to write. Giving the same command again continues it, or says that it is done.
    # Kind of vocabulary to train. `wordpiece` is what the Chinese models have: every Chinese character a piece, and
    # frequent parts of other words; --vocab-size is then the most it may have. For Japanese give --no-lower with it:
    # lower case drops accents, and with them what tells が from か.
    tokenizer: Literal["sentencepiece", "wordpiece"] = "sentencepiece"
    vocab_size: int = 8000  # Pieces of the vocabulary to train, 13 fixed ones included (of `wordpiece` 5).
    # Use this vocabulary (directory, .model file, WordPiece vocab.txt, or that of a model in the box, albert_jax/NAME)
    # instead of training one.
    vocab: str | None = None
    # MiB of text to train the vocabulary on, spread evenly over the corpus. 16 MiB take 400 MiB of memory.
    vocab_sample_mb: float = knob(16.0, above=0)
    # Share of the text's characters that get a piece of their own when training a vocabulary.
    character_coverage: float = knob(0.99995, at_least=0.9, at_most=1)
    lower: bool = True  # Lower-case the text, when training a vocabulary.
    # Keep accents and other combining marks, when training a vocabulary. (`wordpiece` keeps them with the case.)
    keep_accents: bool = False
    # Which pieces start a word, for whole-word masking: all scripts, or the original's English-only rule.
    word_rule: WordRule = "multilingual"
    # Of text: `sentences` (one a line, blank line between documents), `paragraphs` (blank line between paragraphs, two
    # between documents; split into sentences), or `auto` (decided for each file from its first 64 KiB).
    layout: Layout = "auto"
    validation: float = knob(0.05, at_least=0, at_most=1)  # Share of documents to hold out for validation.
    test: float = knob(0.05, at_least=0, at_most=1)  # Share of documents to hold out for testing.
    # Pieces in one record, at most 65,535; longer documents are divided where a sentence ends, without loss.
    max_document_pieces: int = knob(32_768, at_least=1, at_most=MAX_PIECES)
    # MiB of text in a shard, the unit of work; 0 = a 64th of the corpus, but 4 to 64 MiB.
    shard_mb: float = knob(0.0, at_least=0)
    # Accept a corpus in which every document has one sentence: sentence order cannot be learned from it.
    allow_single_sentences: bool = False
    workers: int = knob(0, at_least=0)  # Processes; 0 = one a core.
    # `local`, or an Apache Beam runner (DirectRunner, DataflowRunner, ...; extra `beam`) for corpora beyond one
    # machine. Corpus and --out must then be on a file system that all machines see.
    runner: str = "local"
    beam_options: tuple[str, ...] = ()  # Options for the Beam runner, such as --direct_num_workers=4.

    @property
    def normalization(self) -> Normalization:
        """Of a vocabulary to train."""
        return Normalization(self.lower, self.keep_accents)

    def made_from(self, digest: str, vocabulary: AnyTokenizer | None) -> dict[str, Any]:
        """What decides the bytes of the result: kept in prepared.json, compared when a run continues."""
        decisive = ["layout", "validation", "test", "max_document_pieces", "shard_mb"]
        if vocabulary is None:
            decisive += ["vocab_size", "vocab_sample_mb", "character_coverage", "lower", "keep_accents", "word_rule"]
            # Not of the other kind: directories that were begun before there was a choice have no such entry.
            decisive += ["tokenizer"] * (self.tokenizer != "sentencepiece")
        made_from = {"corpus": list(self.corpus), "corpus_digest": digest}
        made_from |= {name: getattr(self, name) for name in decisive}
        return made_from if vocabulary is None else made_from | {"vocab": vocabulary.fingerprint}


def given_vocabulary(config: PrepareConfig) -> AnyTokenizer | None:
    """The vocabulary that `config` names, None where one is to be trained.

    Raises AlbertError when it cannot be read, or was made with other choices than `config` asks for.
    """
    refuse(_flaws_of_kind(config))
    if config.vocab is None:
        return None
    tokenizer = load(config.vocab, config.lower)
    if config.tokenizer == "wordpiece" and not isinstance(tokenizer, WordPieceTokenizer):
        raise AlbertError(f"{config.vocab}: is no WordPiece vocabulary; leave out --tokenizer, or --vocab to train one")
    if isinstance(tokenizer, Tokenizer) and not Path(config.vocab).is_dir():
        return tokenizer.with_choices(config.normalization, config.word_rule)
    if not isinstance(tokenizer, Tokenizer) and not config.keep_accents and config.word_rule == "multilingual":
        return tokenizer  # its accents follow its case, and it has one rule of words
    # The default flags mean "as it is stored": who names a cased vocabulary need not say --no-lower as well.
    asked, stored = (config.normalization, config.word_rule), (tokenizer.normalization, tokenizer.word_rule)
    if asked not in ((Normalization(), "multilingual"), stored):
        raise AlbertError(
            f"{config.vocab}: was made with other choices of lower case, accents or word rule; leave those flags out"
        )
    return tokenizer


def directory_vocabulary(
    config: PrepareConfig, directory: Path, given: AnyTokenizer | None, units: Sequence[corpora.Unit]
) -> AnyTokenizer:
    """The vocabulary of the directory: found from a run before, given, or trained on a sample; saved in it."""
    path = paths.vocab_dir(directory)
    if path.exists():
        return load(path)
    max_bytes = int(config.vocab_sample_mb * 2**20)
    vocabulary = given or _trained(config, _sample(config, units, max_bytes), max_bytes)
    # Saved under another name first, so that DIR/vocab is complete wherever it exists.
    temporary = paths.unfinished_dir(directory) / "vocab"
    shutil.rmtree(temporary, ignore_errors=True)
    vocabulary.save(temporary)
    os.replace(temporary, path)
    return vocabulary


def _trained(config: PrepareConfig, texts: Iterator[str], max_bytes: int) -> AnyTokenizer:
    size, coverage = config.vocab_size, config.character_coverage
    if config.tokenizer == "wordpiece":
        return WordPieceTokenizer.train(texts, size, config.lower, max_bytes, coverage)
    return Tokenizer.train(texts, size, config.normalization, config.word_rule, max_bytes, coverage)


def _flaws_of_kind(config: PrepareConfig) -> Iterator[str]:
    if config.tokenizer != "wordpiece" or config.vocab is not None:
        return
    if config.keep_accents:
        yield "--keep-accents: a WordPiece vocabulary keeps accents where it keeps case; give --no-lower instead"
    if config.word_rule != "multilingual":
        yield f"--word-rule {config.word_rule}: a WordPiece vocabulary marks its words itself; leave it out"


def _sample(config: PrepareConfig, units: Sequence[corpora.Unit], max_bytes: int) -> Iterator[str]:
    """Sentences of training documents for the vocabulary: the head of each unit, in proportion to its size."""
    # Heads, not every n-th document of all: so the time for it does not depend on the size of the corpus.
    total = sum(segment.size for unit in units for segment in unit)
    # Nine tenths, because the last document of a unit goes over: a sample above the limit would be halved.
    share = 0.9 * max_bytes / total if total > 0.9 * max_bytes else float("inf")
    documents = single = 0
    for unit in units:
        quota = share * sum(segment.size for segment in unit)
        for document in (document for segment in unit for document in corpora.read(segment)):
            documents += 1
            single += len(document.sentences) == 1
            if split_of(document.split_key, config.validation, config.test) == "train":
                yield from document.sentences
                quota -= sum(len(sentence.encode("utf-8", "replace")) for sentence in document.sentences)
            if quota <= 0:
                break
        if documents >= _SAMPLE_DOCUMENTS and single == documents and not config.allow_single_sentences:
            raise AlbertError(single_sentences(documents))


def single_sentences(documents: int) -> str:
    """The complaint about a corpus of one-sentence documents."""
    return (
        f"each of {documents:,} documents has one sentence, so sentence order cannot be learned: leave blank"
        " lines only between documents, give --layout paragraphs if lines are paragraphs, or accept it with"
        " --allow-single-sentences"
    )
