"""Training a vocabulary: the released layout, on a bounded and repeatable sample of the text.

The layout is that of the released ALBERT vocabularies: ids 0..12 are
`<pad> <unk> [CLS] [SEP] [MASK] ( ) " - . – £ €`, then the learned pieces. It is asked for through
SentencePiece's list API. (The comma-separated flag in the original's README is read as CSV by SentencePiece
0.2: its quotation mark opens a field that swallows what follows, and three of the eight symbols become
one.)
"""

import io
import re
from collections.abc import Iterable, Iterator

import sentencepiece

from albert_jax.data.text.normalize import Normalization, normalize
from albert_jax.errors import AlbertError

CONTROL_SYMBOLS = ("[CLS]", "[SEP]", "[MASK]")
USER_SYMBOLS = ("(", ")", '"', "-", ".", "–", "£", "€")
LAYOUT = ("<pad>", "<unk>", *CONTROL_SYMBOLS, *USER_SYMBOLS)

SAMPLE_BYTES = 16 * 1024 * 1024  # of normalised text; training on it takes 400 MiB (benchmarks/prepare.py)
CHARACTER_COVERAGE = 0.99995  # share of the text's characters that get a piece of their own (README of the original)
MAX_VOCAB_SIZE = 2**31 - 1
_THREADS = 4  # fixed: the sums of the EM steps, hence the scores, depend on how they are cut
_SEED_PIECES = 1_000_000  # candidates before pruning; SentencePiece's default
_MAX_TEXT_BYTES = 2**20  # SentencePiece skips longer texts in silence, so they are cut


def train_model(
    texts: Iterable[str],
    vocab_size: int,
    normalization: Normalization,
    max_bytes: int = SAMPLE_BYTES,
    character_coverage: float = CHARACTER_COVERAGE,
) -> bytes:
    """A serialised SentencePiece unigram model of `vocab_size` pieces, 13 of them the fixed layout.

    Equal texts give equal bytes: the sample is even over the texts (see `sample`) and the thread count is
    fixed.

    Raises:
        AlbertError: no text, or a vocabulary size that this text cannot give (the possible one is named).
    """
    if not len(LAYOUT) < vocab_size <= MAX_VOCAB_SIZE:
        raise AlbertError(f"vocab_size {vocab_size}: {len(LAYOUT)} pieces are fixed, give more than that")
    sampled = sample((normalize(text, normalization) for text in texts), max_bytes)
    if not sampled:
        raise AlbertError("no text to train a vocabulary on: the corpus is empty")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=_cut(sampled),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            control_symbols=list(CONTROL_SYMBOLS),
            user_defined_symbols=list(USER_SYMBOLS),
            character_coverage=character_coverage,
            shuffle_input_sentence=False,
            max_sentence_length=_MAX_TEXT_BYTES,
            seed_sentencepiece_size=_SEED_PIECES,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise _explained(str(error), vocab_size) from error
    return model.getvalue()


def sample(texts: Iterable[str], max_bytes: int) -> list[str]:
    """At most `max_bytes` of `texts`, even over all of them, in their order, in one pass and bounded memory.

    Keeps every text until the limit is passed, then every second of them, every fourth, ... Blank ones are
    left out. No random numbers: the same texts give the same sample.
    """
    kept: list[str] = []
    total, stride, index = 0, 1, -1
    for text in texts:
        if not text:
            continue
        index += 1
        if index % stride:
            continue
        kept.append(text)
        total += len(text.encode("utf-8", "replace"))
        while total > max_bytes and len(kept) > 1:
            kept = kept[::2]
            stride *= 2
            total = sum(len(text.encode("utf-8", "replace")) for text in kept)
    return kept


def _cut(texts: Iterable[str]) -> Iterator[str]:
    step = _MAX_TEXT_BYTES // 4  # characters: at most 4 bytes each
    for text in texts:
        for start in range(0, len(text), step):
            yield text[start : start + step]


def _explained(message: str, vocab_size: int) -> AlbertError:
    """SentencePiece's complaint about the size, with the size that is possible."""
    largest = re.search(r"set it to a value <= (\d+)", message)
    if largest:
        return AlbertError(
            f"vocab_size {vocab_size} is too large for this text: at most {largest[1]} pieces can be learned"
            f" from it; use --vocab-size {largest[1]} or less, or more text"
        )
    smallest = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if smallest:
        return AlbertError(
            f"vocab_size {vocab_size} is too small for this text: its characters alone need {smallest[1]}"
            f" pieces; use --vocab-size {smallest[1]} or more, or a lower character coverage"
        )
    return AlbertError(f"SentencePiece could not train a vocabulary of {vocab_size} pieces: {message.strip()}")
