"""The vocabulary of a prepared directory: given, found from a run before, or trained on a sample."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from albert_jax.data.corpus import corpora
from albert_jax.data.corpus.config import PrepareConfig
from albert_jax.data.store import paths as layout
from albert_jax.data.store.splits import split_of
from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer, load
from albert_jax.errors import AlbertError

_MEGABYTE = 2**20
_TELLING_SAMPLE = 1_000  # documents: if all of so many have one sentence, the whole corpus is like that


def given_vocabulary(config: PrepareConfig) -> AnyTokenizer | None:
    if config.vocab is None:
        return None
    asked = (Normalization(config.lower, config.keep_accents), config.word_rule)
    tokenizer = load(config.vocab, config.lower)
    if isinstance(tokenizer, Tokenizer) and not Path(config.vocab).is_dir():
        return tokenizer.with_choices(*asked)
    if not isinstance(tokenizer, Tokenizer) and not config.keep_accents and config.word_rule == "multilingual":
        return tokenizer  # its accents follow its case, and it has one rule of words
    stored = (tokenizer.normalization, tokenizer.word_rule)
    if asked not in ((Normalization(), "multilingual"), stored):
        raise AlbertError(
            f"{config.vocab}: was made with other choices of lower case, accents or word rule; leave those flags out"
        )
    return tokenizer


def directory_vocabulary(
    config: PrepareConfig,
    directory: Path,
    given: AnyTokenizer | None,
    units: Sequence[tuple[corpora.Segment, ...]],
) -> AnyTokenizer:
    """The tokenizer of the directory, saved in it; complete or not there at all."""
    path = layout.vocab_dir(directory)
    if path.exists():
        return load(path)
    if given is None:
        max_bytes = int(config.vocab_sample_mb * _MEGABYTE)
        given = Tokenizer.train(
            _sample(config, units, max_bytes),
            config.vocab_size,
            Normalization(config.lower, config.keep_accents),
            config.word_rule,
            max_bytes,
            config.character_coverage,
        )
    temporary = layout.unfinished_dir(directory) / "vocab"
    shutil.rmtree(temporary, ignore_errors=True)
    given.save(temporary)
    os.replace(temporary, path)
    return given


def _sample(config: PrepareConfig, units: Sequence[tuple[corpora.Segment, ...]], max_bytes: int) -> Iterator[str]:
    """Sentences of training documents for the vocabulary: the head of each unit, in proportion to its size.

    So the time for it does not depend on the size of the corpus.
    """
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
        if documents >= _TELLING_SAMPLE and single == documents and not config.allow_single_sentences:
            raise single_sentences(documents)


def single_sentences(documents: int) -> AlbertError:
    return AlbertError(
        f"each of {documents:,} documents has one sentence, so sentence order cannot be learned: leave blank"
        " lines only between documents, give --layout paragraphs if lines are paragraphs, or accept it with"
        " --allow-single-sentences"
    )
