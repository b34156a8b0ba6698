"""Pretraining examples: drawn from a document store, or read from records of the original's data tool."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.examples import draws
from albert_jax.data.examples.google_compat import GoogleMasker, GooglePairs
from albert_jax.data.examples.masking import MaskConfig, Masker, Vocabulary
from albert_jax.data.examples.pairs import Documents, PairConfig, PairSource
from albert_jax.data.examples.tfrecords import TFRecords, parse_example
from albert_jax.errors import AlbertError, refuse, retold

_WEIGHTS = ("masked_weights", "order_weight")


class PretrainingSource:
    """Masked-word and sentence-order examples over a document store.

    Example `index` belongs to epoch index // len(source) and is the same in every process, order and run with the same
    seed. Its text is of the document that the index names (see `PairSource`); its masks are drawn with it, so an epoch
    never repeats the masks of another.

    Raises AlbertError for a configuration that cannot be met, or a store without text or without orders.
    """

    weights = _WEIGHTS

    def __init__(
        self,
        documents: Documents,
        vocabulary: Vocabulary,
        pairs: PairConfig | None = None,
        masks: MaskConfig | None = None,
    ) -> None:
        pairs, masks = pairs or PairConfig(), masks or MaskConfig()
        self.pairs = (GooglePairs if pairs.chunks == "google_compat" else PairSource)(documents, pairs)
        masker = GoogleMasker if masks.spans == "google_compat" else Masker
        self.masker = masker(masks, vocabulary, pairs.max_length)
        # Of the length that a run begins with, where that is another: fewer pieces have fewer prediction slots.
        self._first_masker = masker(masks, vocabulary, pairs.first_length or pairs.max_length)
        self._cls_id, self._sep_id, self._pad_id = vocabulary.cls_id, vocabulary.sep_id, vocabulary.pad_id
        # A corpus is recognised by its vocabulary and the lengths of its documents: reading all of it would take
        # minutes.
        name = repr(getattr(documents, "fingerprint", ""))
        identity = f"({name}, {_named(self.pairs.config)}, {_named(masks)})"
        digest = hashlib.blake2b(identity.encode(), digest_size=8)
        digest.update(np.asarray(documents.lengths, np.int64).tobytes())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        """Examples of one epoch."""
        return len(self.pairs)

    def example(self, seed: int, index: int, place: int | None = None) -> dict[str, Any]:
        """One example; `place`: how many of the run came before it, which decides length and mask rate where those
        change during a run (None: after all changes).

        Before: a document's pieces "a b c d. e f." of which the pair shows "e f." and "a b c d.", label 1.
        After, with S = 12 and P = 2:
            input_ids [CLS] e f . [SEP] a [MASK] c d . [SEP] [PAD]  segment_ids 0 0 0 0 0 1 1 1 1 1 1 0
            masked_positions 6 0, masked_ids b 0, masked_weights 1 0, order_label 1, order_weight 1

        Returns input_ids, segment_ids int32 [S]; mask bool [S] (True = real piece); masked_positions, masked_ids int32
        [P]; masked_weights float32 [P]; order_label int32 []; order_weight float32 [].
        """
        pair = self.pairs.pair(seed, index, place)
        size = self.pairs.config.length_at(place)
        first, second = len(pair.first), len(pair.second)
        ids = np.full(size, self._pad_id, np.int32)
        segments = np.zeros(size, np.int32)
        real = np.zeros(size, bool)
        ids[0] = self._cls_id
        ids[1 : 1 + first] = pair.first
        length = first + 2
        ids[length - 1] = self._sep_id
        if second:
            ids[length : length + second] = pair.second
            ids[length + second] = self._sep_id
            segments[length : length + second + 1] = 1
            length += second + 1
        real[:length] = True
        masker = self.masker if size == self.pairs.config.max_length else self._first_masker
        masked = masker.apply(ids, length, draws.Draws(seed, draws.MASKS, index), place)
        return {
            "input_ids": masked.input_ids,
            "segment_ids": segments,
            "mask": real,
            "masked_positions": masked.positions,
            "masked_ids": masked.labels,
            "masked_weights": masked.weights,
            "order_label": np.int32(pair.label),
            "order_weight": np.float32(pair.weight),
        }


# Fields that came later: at their defaults they are no part of an identity, so that runs from before can go on.
_LATER = ("first_length", "first_examples", "end_rate", "end_examples")


def _named(config: PairConfig | MaskConfig) -> str:
    """`repr(config)` without the fields of `_LATER` that are not used."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    shown = (f"{name}={value!r}" for name, value in values.items() if value or name not in _LATER)
    return f"{type(config).__name__}({', '.join(shown)})"


# The fields of a record that `create_pretraining_data.py` wrote: S values, P values, one. `token_boundary` (which
# pieces start a word) is left out: it is for masking anew, which the original's release lacks.
_PIECES = ("input_ids", "input_mask", "segment_ids")
_SLOTS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
_LABEL = "next_sentence_labels"
_BASELINE_EXAMPLES = 2000  # that the unigram counts are taken over, evenly spaced


class GoogleRecords:
    """Examples of TFRecord files in the files' order, the same in every epoch: S pieces and P prediction slots each.

    Raises AlbertError, naming file and record: no record, one that is damaged, lacks a field, is of other lengths than
    the first, or has ids outside the vocabulary.
    """

    weights = _WEIGHTS

    def __init__(self, files: Sequence[str | Path], vocab_size: int) -> None:
        self._records = TFRecords(files)
        self._vocab_size = vocab_size
        if not len(self._records):
            raise AlbertError(f"{', '.join(map(str, files))}: no records; make them with the original's data tool")
        first = self._parsed(0)
        self.max_length, self.predictions = len(first["input_ids"]), len(first["masked_lm_positions"])  # S, P
        names = [(path.name, path.stat().st_size) for path in self._records.files]
        self.fingerprint = hashlib.blake2b(repr((names, vocab_size)).encode(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def example(self, seed: int, index: int, place: int | None = None) -> dict[str, Any]:
        """Record index % len(source); seed and place change nothing. Shapes and types: `PretrainingSource.example`."""
        index %= len(self._records)
        found = self._parsed(index)
        refuse(f"{self._records.name(index)}: {flaw}" for flaw in self._flaws(found))
        return {
            "input_ids": found["input_ids"].astype(np.int32),
            "segment_ids": found["segment_ids"].astype(np.int32),
            "mask": found["input_mask"] != 0,
            "masked_positions": found["masked_lm_positions"].astype(np.int32),
            "masked_ids": found["masked_lm_ids"].astype(np.int32),
            "masked_weights": found["masked_lm_weights"].astype(np.float32),
            "order_label": np.int32(found[_LABEL][0]),
            "order_weight": np.float32(1),
        }

    def unigram_counts(self) -> np.ndarray:
        """How often each piece occurs in the text of some records, [CLS] and [SEP] included: int64 [V]."""
        counts = np.zeros(self._vocab_size, np.int64)
        for index in np.unique(np.linspace(0, len(self) - 1, _BASELINE_EXAMPLES).astype(np.int64)).tolist():
            example = self.example(0, index)
            used = example["masked_weights"] > 0
            example["input_ids"][example["masked_positions"][used]] = example["masked_ids"][used]
            counts += np.bincount(example["input_ids"][example["mask"]], minlength=self._vocab_size)
        return counts

    def _parsed(self, index: int) -> dict[str, np.ndarray]:
        with retold(lambda message: f"{self._records.name(index)} is no tf.train.Example ({message})", ValueError):
            found = parse_example(self._records[index])
        arrays = {name: values for name, values in found.items() if isinstance(values, np.ndarray)}
        if missing := [name for name in (*_PIECES, *_SLOTS, _LABEL) if name not in arrays]:
            raise AlbertError(
                f"{self._records.name(index)} has no numbers in {', '.join(missing)}; it has "
                f"{', '.join(sorted(found)) or 'nothing'}: give files that the original's create_pretraining_data wrote"
            )
        return arrays

    def _flaws(self, found: dict[str, np.ndarray]) -> Iterator[str]:
        sizes = dict.fromkeys(_PIECES, self.max_length) | dict.fromkeys(_SLOTS, self.predictions) | {_LABEL: 1}
        for name, size in sizes.items():
            if len(found[name]) != size:
                yield (
                    f"{name} has {len(found[name])} values, where the first record has {size}; give files of one "
                    "--max_seq_length and --max_predictions_per_seq"
                )
        limits = {
            "input_ids": self._vocab_size, "masked_lm_ids": self._vocab_size, "segment_ids": 2,
            "masked_lm_positions": self.max_length, _LABEL: 2,
        }  # fmt: skip
        for name, limit in limits.items():
            values = found[name]
            if len(values) and (values.min() < 0 or values.max() >= limit):
                yield (
                    f"{name} goes from {values.min()} to {values.max()}, and 0 to {limit - 1} is possible; is this the "
                    "vocabulary that the records were made with?"
                )
        if not found["input_mask"].any():
            yield "input_mask is 0 everywhere, the record has no text"
