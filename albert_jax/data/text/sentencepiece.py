"""The tokenizer: text to piece ids as ALBERT's, with the choices it was made under stored beside it.

    Tokenizer.train(sentences, vocab_size=8000).save("vocab")
    tokenizer = Tokenizer.load("vocab")
    tokenizer.encode("In 1,234 words.")

On disk a vocabulary is a directory with `vocab.model` (SentencePiece) and `vocab.json` (normalisation, word
rule, fingerprint). A bare `.model` file is read as a released one: lower case, no accents.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from albert_jax.data.text.normalize import Normalization, normalize, normalize_batch, normalize_with_offsets
from albert_jax.data.text.vocabulary import CHARACTER_COVERAGE, CONTROL_SYMBOLS, SAMPLE_BYTES, train_model
from albert_jax.data.text.words import WordRule, word_starts
from albert_jax.errors import AlbertError

MODEL_FILE = "vocab.model"
CHOICES_FILE = "vocab.json"
_SPACE = "▁"
_FORMAT = 1
MAX_NARROW_VOCAB = 2**16  # pieces: ids up to here fit uint16


class Tokenizer:
    """Pieces and ids of one vocabulary of V pieces. Immutable, picklable, cheap to send to a worker."""

    pad_id = 0
    unk_id = 1
    cls_id = 2
    sep_id = 3
    mask_id = 4

    def __init__(
        self,
        model: bytes,
        normalization: Normalization | None = None,
        word_rule: WordRule = "multilingual",
        source: str = "vocabulary",
    ):
        """`model` is a serialised SentencePiece model; `source` names it in errors.

        Raises:
            AlbertError: not such a model, or one without the layout pad, unk, [CLS], [SEP], [MASK] = 0..4.
        """
        self._model = model
        self.normalization = normalization or Normalization()
        self.word_rule: WordRule = word_rule
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise AlbertError(f"{source}: not a SentencePiece model") from error
        self.vocab_size: int = self._processor.get_piece_size()
        head = [self._processor.id_to_piece(i) for i in range(min(5, self.vocab_size))]
        if head != ["<pad>", "<unk>", *CONTROL_SYMBOLS]:
            raise AlbertError(
                f"{source}: ids 0..4 are {' '.join(head)}, not <pad> <unk> [CLS] [SEP] [MASK];"
                " train a vocabulary with `python -m albert_jax prepare`"
            )
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= MAX_NARROW_VOCAB else np.uint32)
        self._resplit_pieces = self._resplits()
        self._resplit_rows = {
            self._processor.piece_to_id(piece): tuple(self._processor.piece_to_id(part) for part in parts)
            for piece, parts in self._resplit_pieces.items()
        }
        self._needs_resplit = np.zeros(self.vocab_size, bool)
        self._needs_resplit[list(self._resplit_rows)] = True

    # ------------------------------------------------------------------------------------------ made, kept

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
        """A vocabulary of `vocab_size` pieces learned from at most `max_bytes` of `texts`; repeatable to
        the byte.

        Raises:
            AlbertError: no text, or a size that the text cannot give (the possible one is named).
        """
        choices = normalization or Normalization()
        return cls(train_model(texts, vocab_size, choices, max_bytes, character_coverage), choices, word_rule)

    def save(self, directory: str | Path) -> None:
        """Writes `vocab.model` and `vocab.json` into `directory`, which is made if missing."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        (path / MODEL_FILE).write_bytes(self._model)
        choices = {
            "format": _FORMAT,
            "vocab_size": self.vocab_size,
            "normalization": asdict(self.normalization),
            "word_rule": self.word_rule,
            "fingerprint": self.fingerprint,
        }
        (path / CHOICES_FILE).write_text(json.dumps(choices, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """From a directory written by `save`, or from a bare SentencePiece `.model` file (default choices).

        Raises:
            AlbertError: nothing there, not a vocabulary, or a model that is not the one its choices were
            made for.
        """
        path = Path(path)
        if path.is_dir():
            model_path, choices_path = path / MODEL_FILE, path / CHOICES_FILE
        else:
            model_path, choices_path = path, None
        model = _read(model_path)
        if choices_path is None:
            return cls(model, source=str(model_path))
        try:
            choices: dict[str, Any] = json.loads(_read(choices_path))
            normalization = Normalization(**choices["normalization"])
            word_rule, fingerprint = choices["word_rule"], choices["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise AlbertError(f"{choices_path}: not the choices of a vocabulary: {error}") from error
        tokenizer = cls(model, normalization, word_rule, source=str(model_path))
        if tokenizer.fingerprint != fingerprint:
            raise AlbertError(
                f"{path}: {MODEL_FILE} and {CHOICES_FILE} do not belong together (fingerprint"
                f" {tokenizer.fingerprint[:12]}, stored {fingerprint[:12]}); restore both from one copy"
            )
        return tokenizer

    def with_choices(self, normalization: Normalization, word_rule: WordRule) -> "Tokenizer":
        """The same pieces under other choices: another vocabulary, with another fingerprint."""
        return Tokenizer(self._model, normalization, word_rule)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes, Normalization, WordRule]]:
        return type(self), (self._model, self.normalization, self.word_rule)

    @property
    def model(self) -> bytes:
        """The serialised SentencePiece model."""
        return self._model

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of all that decides ids and words: model bytes, normalisation, word rule."""
        choices = json.dumps([asdict(self.normalization), self.word_rule], sort_keys=True)
        return hashlib.blake2b(self._model + choices.encode(), digest_size=16).hexdigest()

    # ------------------------------------------------------------------------------------------ text to ids

    def normalize(self, text: str) -> str:
        """`text` as the pieces see it; see `data/text.py`."""
        return normalize(text, self.normalization)

    def encode(self, text: str) -> list[int]:
        """Piece ids of `text`, without [CLS] and [SEP] and never one of their kind, whatever the text
        says."""
        return self.encode_batch([text])[0].tolist()

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text` as the original's `FullTokenizer.tokenize` gives them, what has no piece as it is
        written ("日本"); `encode(text)` has their ids, and `unk_id` for those without one."""
        pieces = self._processor.encode(self.normalize(text), out_type=str)
        return [part for piece in pieces for part in self._resplit_pieces.get(piece, (piece,))]

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Piece ids of many texts at once, the fast path: one call into SentencePiece, no loop over pieces.

        Returns:
            The ids of all texts one after the other, uint16 (uint32 above 65,536 pieces) [N], and how many
            belong to each text, int32 [len(texts)].
        """
        rows = self._processor.encode(normalize_batch(texts, self.normalization), num_threads=1)
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), self.dtype, int(lengths.sum()))
        hits = np.flatnonzero(self._needs_resplit[ids])
        if hits.size == 0:
            return ids, lengths
        return self._resplit(ids, lengths, hits)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode(text)` and, for each id, the characters [start, end) of the caller's own `text` it stands
        for.

        White space before a word belongs to no piece. A piece that stands for nothing visible (a lone "▁")
        has an empty span. Several pieces may share a span where one character became several ("½" is
        "1⁄2").
        """
        normalized, spans = normalize_with_offsets(text, self.normalization)
        encoded = self._processor.encode(normalized, return_type="offset_mapping")
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for piece_id, (start, end) in zip(encoded["ids"], encoded["offsets"], strict=True):
            parts = self._resplit_rows.get(piece_id)
            for part_id, part_start, part_end in self._parts(parts or (piece_id,), start, end):
                ids.append(part_id)
                offsets.append(_in_caller_text(normalized, spans, part_start, part_end, len(text)))
        return ids, offsets

    # ------------------------------------------------------------------------------------------ ids to text

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The pieces of `ids`, "▁" marking a space.

        Raises:
            AlbertError: an id that is not in the vocabulary.
        """
        found = [int(i) for i in ids]
        for i in found:
            if not 0 <= i < self.vocab_size:
                raise AlbertError(f"piece id {i}: the vocabulary has ids 0..{self.vocab_size - 1}")
        return [self._all_pieces[i] for i in found]

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids`: special pieces as they are called, unknown ones as <unk>."""
        found = [int(i) for i in ids]
        shown = (
            f" {piece} " if i <= self.mask_id else piece for i, piece in zip(found, self.pieces(found), strict=True)
        )
        return " ".join("".join(shown).replace(_SPACE, " ").split())

    @cached_property
    def word_starts(self) -> np.ndarray:
        """bool [V]: True where a piece starts a word, by `word_rule`; see `data/words.py`."""
        starts = word_starts(self._all_pieces, self.word_rule)
        starts.setflags(write=False)
        return starts

    @cached_property
    def google_word_starts(self) -> np.ndarray:
        """bool [V]: `word_starts` by the rule "google", whatever `word_rule` is."""
        starts = word_starts(self._all_pieces, "google")
        starts.setflags(write=False)
        return starts

    @cached_property
    def _all_pieces(self) -> list[str]:
        return [self._processor.id_to_piece(i) for i in range(self.vocab_size)]

    # ------------------------------------------------------------------- pieces that end in a digit and a
    # comma

    def _resplits(self) -> dict[str, tuple[str, ...]]:
        """piece -> what stands in its place, for each piece that ends in a digit and a comma.

        The original encodes such a piece again without its comma, so that a number is cut the same whether
        or not a comma follows. That depends on the piece alone, so it is a table (`encode_pieces` of its
        tokenization.py). What is encoded again begins with a "▁", inside a word too: the original means to take that
        one off, but compares text with bytes and so never does. Hugging Face's does (docs/tokenizer.md).
        """
        table = {}
        for piece in self._all_pieces:
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
                table[piece] = (*self._processor.encode(piece[:-1].replace(_SPACE, ""), out_type=str), ",")
        return table

    def _resplit(self, ids: np.ndarray, lengths: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`ids` with those at `hits` replaced by their parts, and the `lengths` of the texts grown
        accordingly."""
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
        placed = []
        for part in reversed(parts):  # from the end: a space before the first part may or may not be in the span
            width = len(self._all_pieces[part].replace(_SPACE, "")) if part != self.unk_id else 1
            placed.append((part, max(start, end - width), end))
            end = max(start, end - width)
        return placed[::-1]


def _in_caller_text(normalized: str, spans: np.ndarray, start: int, end: int, length: int) -> tuple[int, int]:
    """Characters of the caller's text under [start, end) of the normalised one, white space at its ends
    left out."""
    while start < end and normalized[start].isspace():
        start += 1
    while start < end and normalized[end - 1].isspace():
        end -= 1
    if start >= end:
        position = int(spans[end, 0]) if end < len(spans) else length
        return position, position
    return int(spans[start, 0]), int(spans[end - 1, 1])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AlbertError(f"{path}: cannot read a vocabulary here ({error.strerror or error})") from error
