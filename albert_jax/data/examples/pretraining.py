"""Pretraining examples: a segment pair with its special pieces, masked; a function of (seed, index)."""

import hashlib
from typing import Any

import numpy as np

from albert_jax.data.examples import draws
from albert_jax.data.examples.google_masks import GoogleMasker
from albert_jax.data.examples.google_pairs import GooglePairs
from albert_jax.data.examples.masking import MaskConfig, Masker, Vocabulary
from albert_jax.data.examples.pairs import Documents, PairConfig, PairSource


class PretrainingSource:
    """Masked-word and sentence-order examples over a document store, for `albert_jax.data.examples.loader.Loader`.

    Example `index` belongs to epoch index // len(source) and is the same in every process, order and run with
    the same seed. Its text is of the document that the index names (see `PairSource`); its masks are drawn
    with it, so an epoch never repeats the masks of another.

    Raises:
        AlbertError: a configuration that cannot be met, or a store without text or without orders.
    """

    def __init__(
        self,
        documents: Documents,
        vocabulary: Vocabulary,
        pairs: PairConfig | None = None,
        masks: MaskConfig | None = None,
    ) -> None:
        pairs, masks = pairs or PairConfig(), masks or MaskConfig()
        self.pairs = (GooglePairs if pairs.chunks == "google_compat" else PairSource)(documents, pairs)
        self.masker = (GoogleMasker if masks.spans == "google_compat" else Masker)(masks, vocabulary, pairs.max_length)
        self._cls_id, self._sep_id, self._pad_id = vocabulary.cls_id, vocabulary.sep_id, vocabulary.pad_id
        # Goes with a saved data position, since the same place in another corpus is another place. A corpus
        # is told by its vocabulary and the lengths of its documents.
        identity = (getattr(documents, "fingerprint", ""), self.pairs.config, self.masker.config)
        digest = hashlib.blake2b(repr(identity).encode(), digest_size=8)
        digest.update(np.asarray(documents.lengths, np.int64).tobytes())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        """Examples of one epoch."""
        return len(self.pairs)

    def example(self, seed: int, index: int) -> dict[str, Any]:
        """One example.

        Before: a document's pieces "a b c d. e f." of which the pair shows "e f." and "a b c d.", label 1.
        After, with S = 12 and P = 2:
            input_ids [CLS] e f . [SEP] a [MASK] c d . [SEP] [PAD]  segment_ids 0 0 0 0 0 1 1 1 1 1 1 0
            masked_positions 6 0, masked_ids b 0, masked_weights 1 0, order_label 1, order_weight 1

        Returns:
            input_ids, segment_ids int32 [S]; mask bool [S] (True = real piece); masked_positions, masked_ids
            int32 [P]; masked_weights float32 [P]; order_label int32 []; order_weight float32 [].
        """
        pair = self.pairs.pair(seed, index)
        size = self.pairs.config.max_length
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
        masked = self.masker.apply(ids, length, draws.Draws(seed, draws.MASKS, index))
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
