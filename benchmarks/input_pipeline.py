"""Speed of the input pipeline alone, and what it makes: python benchmarks/input_pipeline.py [--data DIR]

Prints, for S = 128 and S = 512, the pieces a second (padding counts, as it does in a training step), the
shares of short, swapped and orderless examples, the realised masking rate and the realised mix of span
lengths. Without --data the documents are synthetic and held in memory; with it they are read from a prepared
directory. Of several short runs the fastest is printed: what else the machine does can only slow it down.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from albert_jax.data.examples import draws
from albert_jax.data.examples.loader import Batch, Loader
from albert_jax.data.examples.masking import MaskConfig, Masker, _choose
from albert_jax.data.examples.pairs import Documents, PairConfig
from albert_jax.data.examples.pretraining import PretrainingSource

VOCAB_SIZE = 8000
BATCH_SIZE = 64


class SyntheticStore:
    """Documents of log-normal sentences and a Zipf-like choice of pieces."""

    def __init__(self, documents: int, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._documents = []
        for _ in range(documents):
            sizes = np.maximum(1, generator.lognormal(3.0, 0.6, generator.integers(1, 100))).astype(np.int32)
            pieces = 5 + generator.zipf(1.3, sizes.sum()).clip(1, VOCAB_SIZE - 6)
            self._documents.append((pieces.astype(np.uint16), np.cumsum(sizes, dtype=np.int32) - sizes))
        self.lengths = np.array([len(pieces) for pieces, _ in self._documents])
        self.sentence_counts = np.array([len(starts) for _, starts in self._documents])

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, document: int) -> tuple[np.ndarray, np.ndarray]:
        return self._documents[document]


def synthetic() -> tuple[Documents, Any]:
    """2,000 documents, and a vocabulary of which six pieces in ten start a word."""
    starts = np.random.default_rng(1).random(VOCAB_SIZE) < 0.6
    names = dict(pad_id=0, unk_id=1, cls_id=2, sep_id=3, mask_id=4)
    return SyntheticStore(2_000), SimpleNamespace(vocab_size=VOCAB_SIZE, word_starts=starts, **names)


def prepared(directory: Path) -> tuple[Documents, Any]:
    """The train split of a prepared directory, and its vocabulary."""
    from albert_jax.data.store.store import DocumentStore

    store = DocumentStore.open(directory, "train")
    return store, store.tokenizer()


def fastest(run: Callable[[], int], repeats: int) -> float:
    """Pieces a second of the fastest run; `run` returns how many it made."""
    rates = []
    for _ in range(repeats):
        begin = time.perf_counter()
        rates.append(run() / (time.perf_counter() - begin))
    return max(rates)


def span_mix(masker: Masker, length: int, examples: int = 2_000) -> np.ndarray:
    """Realised shares of spans of 1, 2, ... words where every piece is a word, budget and collisions in."""
    counts = np.zeros(masker.config.max_ngram + 1)
    budget = masker.budget(length)
    for seed in range(examples):
        draw = draws.Draws(seed)
        order = np.argsort(draw.block(length - 3)).tolist()
        sizes = masker.ngram_lengths(draw.uniforms(budget)).tolist()
        for _, _, words in _choose(range(length - 2), [True] * (length - 3), order, sizes, budget):
            counts[words] += 1
    return counts[1:] / counts.sum()


def report(documents: Documents, vocabulary: Any, max_length: int, workers: int, repeats: int) -> None:
    """Prints the lines of one sequence length."""
    source = PretrainingSource(documents, vocabulary, PairConfig(max_length), MaskConfig())
    indices = itertools.count()

    def examples_alone() -> int:
        for index in itertools.islice(indices, 500):
            source.example(0, index * 7919)
        return 500 * max_length

    loader = Loader(source, BATCH_SIZE, worker_count=workers)
    batches: list[Batch] = []

    def through_the_loader() -> int:
        batches.extend(itertools.islice(loader, 16))
        return 16 * BATCH_SIZE * max_length

    alone = fastest(examples_alone, repeats)
    for _ in range(2 * max(1, workers)):  # the start of the workers, and what they read ahead, is not counted
        through_the_loader()
    loaded = fastest(through_the_loader, repeats)
    loader.close()

    def total(name: str) -> float:
        return float(sum(batch[name].sum(dtype=np.float64) for batch in batches))

    rows, real, ordered = len(batches) * BATCH_SIZE, total("mask"), total("order_weight")
    swapped = float(sum((batch["order_label"] * batch["order_weight"]).sum() for batch in batches))
    short = float(sum((batch["mask"].sum(1) < max_length).sum() for batch in batches))
    print(f"S {max_length}: examples alone {alone:,.0f} pieces/s, loader ({workers} workers) {loaded:,.0f}")
    print(
        f"  an epoch {len(source):,} examples; real pieces {real / rows / max_length:.3f}, "
        f"shorter {short / rows:.3f}, without order {1 - ordered / rows:.3f}, "
        f"swapped {swapped / max(1, ordered):.3f}"
    )
    mix = " : ".join(f"{share:.3f}" for share in span_mix(source.masker, max_length))
    print(f"  masked {total('masked_weights') / real:.4f} of the real pieces; spans of 1, 2, 3 words {mix}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a prepared directory; without it, synthetic documents")
    parser.add_argument("--workers", type=int, default=0, help="worker processes of the loader; 0 = a thread")
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the fastest is printed")
    options = parser.parse_args()
    documents, vocabulary = prepared(options.data) if options.data else synthetic()
    for max_length in (64, 128, 512):
        report(documents, vocabulary, max_length, options.workers, options.repeats)


if __name__ == "__main__":
    main()
