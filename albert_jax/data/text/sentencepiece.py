"""SentencePiece vocabularies: text to piece ids as the English ALBERT models', and how such a vocabulary is trained.

    Tokenizer.train(sentences, vocab_size=8000).save("vocab")
    Tokenizer.load("vocab").encode("In 1,234 words.")

On disk a vocabulary is a directory with `vocab.model` (SentencePiece) and `vocab.json` (normalisation, word rule,
fingerprint). A bare `.model` file is read as a released one: lower case, no accents.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import sentencepiece

from albert_jax.data.text.normalize import Normalization, normalize, normalize_batch, normalize_with_offsets
from albert_jax.data.text.vocabulary import SPACE, BaseTokenizer, WordRule, word_starts
from albert_jax.errors import AlbertError, retold

# The first ids of the released ALBERT vocabularies; learned pieces follow.
CONTROL_SYMBOLS = ("[CLS]", "[SEP]", "[MASK]")
USER_SYMBOLS = ("(", ")", '"', "-", ".", "–", "£", "€")
LAYOUT = ("<pad>", "<unk>", *CONTROL_SYMBOLS, *USER_SYMBOLS)

SAMPLE_BYTES = 16 * 2**20  # of normalised text to train on; training then takes 400 MiB (benchmarks/prepare.py)
CHARACTER_COVERAGE = 0.99995  # share of the text's characters that get a piece of their own (README of the original)
MAX_VOCAB_SIZE = 2**31 - 1
_THREADS = 4  # fixed: the sums of the EM steps, hence the scores, depend on how they are cut
_SEED_PIECES = 1_000_000  # candidates before pruning; SentencePiece's default
_MAX_TEXT_BYTES = 2**20  # SentencePiece skips longer texts in silence, so they are cut


class Tokenizer(BaseTokenizer):
    """Pieces and ids of a SentencePiece vocabulary of V pieces."""

    FILE = "vocab.model"
    pad_id, unk_id, cls_id, sep_id, mask_id = range(5)

    def __init__(
        self,
        model: bytes,
        normalization: Normalization | None = None,
        word_rule: WordRule = "multilingual",
        source: str = "vocabulary",
    ):
        """`model` is a serialised SentencePiece model; `source` names it in errors.

        Raises AlbertError when it is no such model, or its first ids are not pad, unk, [CLS], [SEP], [MASK].
        """
        self.model = model
        self.normalization = normalization or Normalization()
        self.word_rule: WordRule = word_rule
        with retold(lambda said: f"{source}: not a SentencePiece model", RuntimeError, ValueError):
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size: int = self._processor.get_piece_size()
        head = tuple(self._processor.id_to_piece(i) for i in range(min(5, self.vocab_size)))
        if head != LAYOUT[:5]:
            raise AlbertError(
                f"{source}: ids 0..4 are {' '.join(head)}, not {' '.join(LAYOUT[:5])};"
                " train a vocabulary with `python -m albert_jax prepare`"
            )
        self._resplit_pieces = self._resplits()
        self._resplit_rows = {
            self._processor.piece_to_id(piece): tuple(self._processor.piece_to_id(part) for part in parts)
            for piece, parts in self._resplit_pieces.items()
        }
        self._needs_resplit = np.zeros(self.vocab_size, bool)
        self._needs_resplit[list(self._resplit_rows)] = True

    # ---- made and kept

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        normalization: Normalization | None = None,
        word_rule: WordRule = "multilingual",
        max_bytes: int = SAMPLE_BYTES,
        character_coverage: float = CHARACTER_COVERAGE,
    ) -> "Tokenizer":
        """A vocabulary of `vocab_size` pieces learned from at most `max_bytes` of `texts`; repeatable to the byte.

        Raises AlbertError when there is no text, or for a size that the text cannot give (the possible one is named).
        """
        if not len(LAYOUT) < vocab_size <= MAX_VOCAB_SIZE:
            raise AlbertError(f"vocab_size {vocab_size}: {len(LAYOUT)} pieces are fixed, give more than that")
        choices = normalization or Normalization()
        sampled = sample((normalize(text, choices) for text in texts), max_bytes)
        if not sampled:
            raise AlbertError("no text to train a vocabulary on: the corpus is empty")
        model = io.BytesIO()
        with retold(lambda said: _explained(said, vocab_size), RuntimeError, ValueError):
            sentencepiece.SentencePieceTrainer.Train(
                sentence_iterator=_cut(sampled),
                model_writer=model,
                model_type="unigram",
                vocab_size=vocab_size,
                pad_id=cls.pad_id,
                unk_id=cls.unk_id,
                bos_id=-1,
                eos_id=-1,
                # Lists, not the comma-separated flag of the original's README: SentencePiece 0.2 reads that as CSV,
                # whose quotation mark opens a field that swallows what follows, and three of eight symbols become one.
                control_symbols=list(CONTROL_SYMBOLS),
                user_defined_symbols=list(USER_SYMBOLS),
                character_coverage=character_coverage,
                shuffle_input_sentence=False,
                max_sentence_length=_MAX_TEXT_BYTES,
                seed_sentencepiece_size=_SEED_PIECES,
                num_threads=_THREADS,
                minloglevel=2,
            )
        return cls(model.getvalue(), choices, word_rule)

    @classmethod
    def parse(cls, content: bytes, choices: dict[str, Any], source: str) -> "Tokenizer":
        """From a serialised SentencePiece model; see `BaseTokenizer.parse`."""
        if not choices:
            return cls(content, source=source)
        return cls(content, Normalization(**choices["normalization"]), choices["word_rule"], source)

    def with_choices(self, normalization: Normalization, word_rule: WordRule) -> "Tokenizer":
        """The same pieces under other choices: another vocabulary, with another fingerprint."""
        return Tokenizer(self.model, normalization, word_rule)

    def _content(self) -> bytes:
        return self.model

    def _choices(self) -> dict[str, Any]:
        normalization = asdict(self.normalization)
        return {"vocab_size": self.vocab_size, "normalization": normalization, "word_rule": self.word_rule}

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes, Normalization, WordRule]]:
        return type(self), (self.model, self.normalization, self.word_rule)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of model bytes, normalisation and word rule."""
        choices = json.dumps([asdict(self.normalization), self.word_rule], sort_keys=True)
        return hashlib.blake2b(self.model + choices.encode(), digest_size=16).hexdigest()

    # ---- text to ids

    def normalize(self, text: str) -> str:
        """`text` as the pieces see it; see `normalize.py`."""
        return normalize(text, self.normalization)

    def encode(self, text: str) -> list[int]:
        """Piece ids of `text`, without [CLS] and [SEP]; never a special one, whatever the text says."""
        return self.encode_batch([text])[0].tolist()

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text` as the original's `FullTokenizer.tokenize` gives them, what has no piece as it is
        written ("日本"); `encode(text)` has their ids, and `unk_id` for those without one."""
        pieces = self._processor.encode(self.normalize(text), out_type=str)
        return [part for piece in pieces for part in self._resplit_pieces.get(piece, (piece,))]

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts one after the other, `dtype` [N], and how many each text has, int32 [len(texts)]."""
        # The fast path: one call into SentencePiece, no loop over pieces. One thread, since `prepare` has a process for
        # each core.
        rows = self._processor.encode(normalize_batch(texts, self.normalization), num_threads=1)
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), self.dtype, int(lengths.sum()))
        hits = np.flatnonzero(self._needs_resplit[ids])
        return self._resplit(ids, lengths, hits) if hits.size else (ids, lengths)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode(text)` and, for each id, the characters [start, end) of the caller's own `text` it stands for.

        White space before a word belongs to no piece. A piece that stands for nothing visible (a lone "▁") has an empty
        span. Several pieces may share a span where one character became several ("½" is "1⁄2").
        """
        normalized, spans = normalize_with_offsets(text, self.normalization)
        encoded = self._processor.encode(normalized, return_type="offset_mapping")
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for piece_id, (start, end) in zip(encoded["ids"], encoded["offsets"], strict=True):
            parts = self._resplit_rows.get(piece_id, (piece_id,))
            for part_id, part_start, part_end in self._parts(parts, start, end):
                ids.append(part_id)
                offsets.append(_in_caller_text(normalized, spans, part_start, part_end, len(text)))
        return ids, offsets

    # ---- ids to text

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids`: special pieces by their names, unknown ones as <unk>."""
        found = [int(i) for i in ids]
        shown = (
            f" {piece} " if i <= self.mask_id else piece for i, piece in zip(found, self.pieces(found), strict=True)
        )
        return " ".join("".join(shown).replace(SPACE, " ").split())

    @cached_property
    def word_starts(self) -> np.ndarray:
        """bool [V]: True where a piece starts a word, by `word_rule`."""
        return word_starts(self._all_pieces, self.word_rule)

    @cached_property
    def bare_mark(self) -> int | None:  # type: ignore[override]
        """The id of "▁" alone, which comes before a character that no piece holds together with its space."""
        number = int(self._processor.piece_to_id(SPACE))
        return None if number == self.unk_id else number

    @cached_property
    def google_word_starts(self) -> np.ndarray:
        """bool [V]: `word_starts` by the rule "google", whatever `word_rule` is."""
        return word_starts(self._all_pieces, "google")

    @cached_property
    def _all_pieces(self) -> list[str]:  # type: ignore[override]
        return [self._processor.id_to_piece(i) for i in range(self.vocab_size)]

    # ---- pieces that end in a digit and a comma

    def _resplits(self) -> dict[str, tuple[str, ...]]:
        """piece -> its parts, for each piece that ends in a digit and a comma."""
        # The original encodes such a piece again without its comma, so that a number is cut the same whether or not a
        # comma follows (`encode_pieces` of its tokenization.py). That depends on the piece alone, so it is a table.
        # What is encoded again begins with a "▁", inside a word too: the original means to take it off, but compares
        # text with bytes and so never does. Hugging Face's does (docs/tokenizer.md).
        return {
            piece: (*self._processor.encode(piece[:-1].replace(SPACE, ""), out_type=str), ",")
            for piece in self._all_pieces
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()
        }

    def _resplit(self, ids: np.ndarray, lengths: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`ids` with those at `hits` replaced by their parts, and the longer `lengths` of the texts."""
        parts = [self._resplit_rows[i] for i in ids[hits].tolist()]
        growth = np.fromiter((len(part) - 1 for part in parts), np.int64, len(parts))
        rows = np.searchsorted(np.cumsum(lengths), hits, side="right")
        new_lengths = lengths.copy()
        np.add.at(new_lengths, rows, growth.astype(np.int32))
        repeats = np.ones(ids.size, np.int64)
        repeats[hits] += growth
        new_ids = np.repeat(ids, repeats)
        starts = hits + np.cumsum(growth) - growth
        for start, part in zip(starts.tolist(), parts, strict=True):
            new_ids[start : start + len(part)] = part
        return new_ids, new_lengths

    def _parts(self, parts: Sequence[int], start: int, end: int) -> list[tuple[int, int, int]]:
        """(id, start, end) of the `parts` of one piece that spans [start, end) of the normalised text."""
        if len(parts) == 1:
            return [(parts[0], start, end)]
        spans = []
        for part in reversed(parts):  # from the end: a space before the first part may or may not be in the span
            width = len(self._all_pieces[part].replace(SPACE, "")) if part != self.unk_id else 1
            spans.append((part, max(start, end - width), end))
            end = max(start, end - width)
        return spans[::-1]


def _in_caller_text(normalized: str, spans: np.ndarray, start: int, end: int, length: int) -> tuple[int, int]:
    """The caller's characters under [start, end) of the normalised text, white space at its ends left out."""
    while start < end and normalized[start].isspace():
        start += 1
    while start < end and normalized[end - 1].isspace():
        end -= 1
    if start >= end:
        position = int(spans[end, 0]) if end < len(spans) else length
        return position, position
    return int(spans[start, 0]), int(spans[end - 1, 1])


def sample(texts: Iterable[str], max_bytes: int) -> list[str]:
    """At most `max_bytes` of `texts`, even over all of them, in their order, in one pass and bounded memory.

    Keeps every text until the limit is passed, then every second of them, every fourth, ... Blank ones are left out.
    """
    # Reservoir sampling would do as well but draws random numbers; this way the same texts give the same sample.
    kept: list[str] = []
    total, stride, index = 0, 1, -1
    for text in filter(None, texts):
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


def _explained(message: str, vocab_size: int) -> str:
    """SentencePiece's complaint about the size, with the size that is possible."""
    if largest := re.search(r"set it to a value <= (\d+)", message):
        return (
            f"vocab_size {vocab_size} is too large for this text: at most {largest[1]} pieces can be learned"
            f" from it; use --vocab-size {largest[1]} or less, or more text"
        )
    if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return (
            f"vocab_size {vocab_size} is too small for this text: its characters alone need {smallest[1]}"
            f" pieces; use --vocab-size {smallest[1]} or more, or a lower character coverage"
        )
    return f"SentencePiece could not train a vocabulary of {vocab_size} pieces: {message}"
