"""What the corpus `pydocs` holds here: counts of every package, and some paragraphs to look at.

python -m benchmarks.pydocs [PACKAGE ...] [--sample 20] [--seed 0] [--workers 1]
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from albert_jax.data.pydocs.extract import Module, read_modules


class Counts(NamedTuple):
    """Words are counted by white space; mentions are code spans."""

    documents: int
    paragraphs: int
    sentences: int
    words: int
    mentions: int


def _total(counts: Iterable[Counts]) -> Counts:
    return Counts(*map(sum, zip(Counts(0, 0, 0, 0, 0), *counts, strict=True)))


def count(modules: Iterable[Module]) -> dict[str, Counts]:
    """Counts of each package, most words first."""
    found: dict[str, list[Counts]] = defaultdict(list)
    for module in modules:
        text = [sentence for paragraph in module.paragraphs for sentence in paragraph]
        mentions = sum(sentence.count("`") // 2 for sentence in text)
        found[module.package].append(Counts(1, len(module.paragraphs), len(text), module.words, mentions))
    totals = {package: _total(counts) for package, counts in found.items()}
    return dict(sorted(totals.items(), key=lambda item: (-item[1].words, item[0])))


def count_table(totals: dict[str, Counts]) -> str:
    """The counts as lines of text, one a package and one for all."""
    counts = [*totals.items(), (f"{len(totals)} packages", _total(totals.values()))]
    rows = [("package", *Counts._fields), *((name, *(f"{number:,}" for number in row)) for name, row in counts)]
    return "\n".join("{:<24}{:>10}{:>12}{:>11}{:>11}{:>10}".format(*row) for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints counts and a random sample of paragraphs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pydocs", description=main.__doc__)
    parser.add_argument("packages", nargs="*", help="distribution or import names; none: all that are installed")
    parser.add_argument("--sample", type=int, default=20, help="paragraphs to print, drawn at random (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--workers", type=int, default=1, help="processes that parse (1)")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    modules = list(read_modules(options.packages or None, options.workers))
    print(count_table(count(modules)))
    print(f"{time.perf_counter() - started:.1f} s with {options.workers} worker(s)\n")
    pool = [(module, paragraph) for module in modules for paragraph in module.paragraphs]
    for module, paragraph in random.Random(options.seed).sample(pool, min(options.sample, len(pool))):
        print(f"{module.name}: {' '.join(paragraph)}")


if __name__ == "__main__":
    main()
