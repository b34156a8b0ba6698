"""Pretraining examples that the original's data tool wrote (google-research/albert, `create_pretraining_data.py`).

    Example{input_ids [S], input_mask [S], segment_ids [S], token_boundary [S], masked_lm_positions [P],
            masked_lm_ids [P], masked_lm_weights [P], next_sentence_labels [1]}
 -> the fields of `albert_jax.data.examples.pretraining.PretrainingSource.example`

`token_boundary` (which pieces start a word) is for masking anew, which the original's release lacks; it is left out.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.examples.tfrecords import TFRecords, parse_example
from albert_jax.errors import AlbertError

_FIELDS = (
    "input_ids", "input_mask", "segment_ids", "masked_lm_positions", "masked_lm_ids", "masked_lm_weights",
    "next_sentence_labels",
)  # fmt: skip
_BASELINE_EXAMPLES = 2000  # that the unigram counts are taken over, evenly spaced


class GoogleRecords:
    """Examples in the order of the files, the same in every epoch, for `albert_jax.data.examples.loader.Loader`.

    Attributes:
        max_length: S, pieces of an example.
        predictions: P, prediction slots of an example.

    Raises:
        AlbertError: no record, one that is damaged, lacks a field, is of other lengths than the first, or has ids
            outside the vocabulary; file and record are named.
    """

    def __init__(self, files: Sequence[str | Path], vocab_size: int) -> None:
        self._records = TFRecords(files)
        self._vocab_size = vocab_size
        if not len(self._records):
            raise AlbertError(f"{', '.join(map(str, files))}: no records; make them with the original's data tool")
        first = self._parsed(0)
        self.max_length, self.predictions = len(first["input_ids"]), len(first["masked_lm_positions"])
        names = [(path.name, path.stat().st_size) for path in self._records.files]
        self.fingerprint = hashlib.blake2b(repr((names, vocab_size)).encode(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def example(self, seed: int, index: int) -> dict[str, Any]:
        """Record index % len(source); the seed changes nothing. Shapes and types: `PretrainingSource.example`."""
        index %= len(self._records)
        found = self._parsed(index)
        self._check(index, found)
        return {
            "input_ids": found["input_ids"].astype(np.int32),
            "segment_ids": found["segment_ids"].astype(np.int32),
            "mask": found["input_mask"] != 0,
            "masked_positions": found["masked_lm_positions"].astype(np.int32),
            "masked_ids": found["masked_lm_ids"].astype(np.int32),
            "masked_weights": found["masked_lm_weights"].astype(np.float32),
            "order_label": np.int32(found["next_sentence_labels"][0]),
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
        try:
            found = parse_example(self._records[index])
        except ValueError as error:
            raise AlbertError(f"{self._records.name(index)} is no tf.train.Example ({error})") from error
        arrays = {name: values for name, values in found.items() if isinstance(values, np.ndarray)}
        missing = [name for name in _FIELDS if name not in arrays]
        if missing:
            raise AlbertError(
                f"{self._records.name(index)} has no numbers in {', '.join(missing)}; it has "
                f"{', '.join(sorted(found)) or 'nothing'}: give files that the original's create_pretraining_data wrote"
            )
        return arrays

    def _check(self, index: int, found: dict[str, np.ndarray]) -> None:
        sizes = dict.fromkeys(_FIELDS[:3], self.max_length) | dict.fromkeys(_FIELDS[3:6], self.predictions)
        for name, size in {**sizes, _FIELDS[6]: 1}.items():
            if len(found[name]) != size:
                raise AlbertError(
                    f"{self._records.name(index)}: {name} has {len(found[name])} values, where the first record has "
                    f"{size}; give files of one --max_seq_length and --max_predictions_per_seq"
                )
        limits = {
            "input_ids": self._vocab_size, "masked_lm_ids": self._vocab_size, "segment_ids": 2,
            "masked_lm_positions": self.max_length, "next_sentence_labels": 2,
        }  # fmt: skip
        for name, limit in limits.items():
            values = found[name]
            if len(values) and (values.min() < 0 or values.max() >= limit):
                raise AlbertError(
                    f"{self._records.name(index)}: {name} goes from {values.min()} to {values.max()}, and 0 to "
                    f"{limit - 1} is possible; is this the vocabulary that the records were made with?"
                )
        if not found["input_mask"].any():
            raise AlbertError(f"{self._records.name(index)}: input_mask is 0 everywhere, the record has no text")
