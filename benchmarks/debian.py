"""The text of a Debian-like system's packages: counts of each, paragraphs to look at, and a table that pins them.

python -m benchmarks.debian NAME ...                       counts, and some paragraphs; or TABLE.tsv for names
python -m benchmarks.debian --pins TABLE.tsv NAME ...      also writes the table for --corpus debian:TABLE.tsv
python -m benchmarks.debian --renew TABLE.tsv              writes it anew, of what this system offers of its packages
python -m benchmarks.debian --text TEXT.jsonl NAME ...     also keeps the text, for a system without apt
                            [--sample 20] [--seed 0] [--workers 1]
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from albert_jax.data.corpus.corpora import write_texts
from albert_jax.data.packages.fetch import Pin, fetch, read_pins, write_pins

_RUN = 5  # sentences of a sample


def count_table(pins: Sequence[Pin]) -> str:
    """The characters of each package and its share as lines of text, most first."""
    total = sum(pin.characters for pin in pins)
    rows = sorted(pins, key=lambda pin: (-pin.characters, pin.package))
    lines = [f"{'package':<28}{'characters':>14}{'share':>8}  licence"]
    lines += [f"{p.package:<28}{p.characters:>14,}{p.characters / max(1, total):>8.1%}  {p.licence}" for p in rows]
    return "\n".join([*lines, f"{f'{len(pins)} packages':<28}{total:>14,}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints counts and a random sample of running text; writes the table and the text where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.debian", description=main.__doc__)
    parser.add_argument("packages", nargs="*", help="names of packages, or one table of pins (TABLE.tsv)")
    parser.add_argument("--pins", type=Path, help="write the table of these packages, as they are now, to this file")
    parser.add_argument("--renew", type=Path, help="the same for the packages that this table names")
    parser.add_argument("--text", type=Path, help="write the documents to this file (JSON lines)")
    parser.add_argument("--sample", type=int, default=20, help="stretches of text to print, drawn at random (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--workers", type=int, default=1, help="processes that read (1)")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        text = options.text or Path(directory, "text.jsonl")
        names = [*options.packages, *(read_pins(options.renew) if options.renew else [])]
        pins = write_texts(fetch(",".join(names)), text, options.workers)
        if table := options.pins or options.renew:
            write_pins(table, pins)
        print(count_table(pins))
        print(f"{time.perf_counter() - started:.1f} s with {options.workers} worker(s)\n")
        lines = text.read_text(encoding="utf-8").splitlines() if options.sample else []
    draw = random.Random(options.seed)
    for line in draw.sample(lines, min(options.sample, len(lines))):
        document = json.loads(line)
        start = draw.randrange(max(1, len(document["sentences"]) - _RUN))
        print(f"{document['name']}: {' '.join(document['sentences'][start : start + _RUN])}")


if __name__ == "__main__":
    main()
