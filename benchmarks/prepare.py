"""How fast `prepare` is, how much memory it takes, and what the document store costs to keep and to read.

    python benchmarks/prepare.py                 # all; some 2 minutes
    python benchmarks/prepare.py --sizes 20      # memory at 20 MB of text only

The text is the English of the docstrings of Python, NumPy and JAX, repeated; one sentence a line. Rates are
the best of `--repeats` runs, on one core.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from array_record.python import array_record_module

from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.pydocs.extract import read_modules
from albert_jax.data.store import paths as layout
from albert_jax.data.store.documents import encode_record
from albert_jax.data.store.store import DocumentStore
from albert_jax.data.text.sentencepiece import Tokenizer

_MEGABYTE = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[20, 200], help="MB of text to measure memory at")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the best counts")
    arguments = parser.parse_args()
    documents = [module.document().sentences for module in read_modules(["python", "numpy", "jax"])]
    with tempfile.TemporaryDirectory() as directory:
        speed(Path(directory), documents, arguments.repeats)
        memory(Path(directory), documents, arguments.sizes)


def write_text(path: Path, documents: list[tuple[str, ...]], size: int) -> None:
    """`documents` over and over until there are `size` bytes; each copy says which one it is."""
    text = "\n\n".join("\n".join(sentences) for sentences in documents)
    written = copy = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size:
            block = text[: size - written].replace("\n\n", f" ({copy})\n\n") + "\n\n"
            written += file.write(block)
            copy += 1


def speed(directory: Path, documents: list[tuple[str, ...]], repeats: int) -> None:
    corpus = directory / "speed.txt"
    write_text(corpus, documents, 10 * _MEGABYTE)
    lines = corpus.read_text(encoding="utf-8").split("\n")
    tokenizer = Tokenizer.train(lines[: len(lines) // 2], 8000)
    tokenizer.save(directory / "vocab")
    lines = [line for line in lines if line][:50_000]
    pieces = len(tokenizer.encode_batch(lines)[0])
    seconds = best(lambda: tokenizer.encode_batch(lines), repeats)
    print(f"normalise and encode, one core     {pieces / seconds:>12,.0f} tokens/s")

    outs = iter(range(1_000_000))
    config = {"corpus": (str(corpus),), "vocab": str(directory / "vocab"), "workers": 1}

    def run() -> None:
        prepare(PrepareConfig(out=str(directory / f"out-{next(outs)}"), **config))

    seconds = best(run, repeats)
    out = directory / "out-0"
    stores = [DocumentStore.open(out, split) for split in ("train", "validation", "test")]
    total = sum(int(store.lengths.sum()) for store in stores)
    print(f"prepare, one core                  {total / seconds:>12,.0f} tokens/s")
    store = stores[0]
    order = random.Random(0).sample(range(len(store)), len(store))
    seconds = best(lambda: [store[i] for i in order], repeats)
    print(f"store[i], {store.lengths.mean():,.0f} pieces on average    {seconds / len(store) * 1e6:>12,.1f} us")
    print("\nArrayRecord options               bytes a piece   write us a piece   read us a document")
    records = [encode_record(*store[i], "", "") for i in range(len(store))]
    path = directory / "records"
    for options in ("uncompressed", "snappy", "zstd:1", "zstd:3"):

        def write(options: str = options) -> None:
            writer = array_record_module.ArrayRecordWriter(str(path), f"group_size:1,{options}")
            for record in records:
                writer.write(record)
            writer.close()

        writing = best(write, repeats)
        reader = array_record_module.ArrayRecordReader(str(path), "readahead_buffer_size:0")
        reading = best(lambda reader=reader: [reader.read([i]) for i in order], repeats)
        chosen = "  (chosen)" if layout.ARRAY_RECORD_OPTIONS.endswith(options) else ""
        print(
            f"  {options + chosen:<32}{path.stat().st_size / store.lengths.sum():>13.2f}"
            f"{writing / store.lengths.sum() * 1e6:>19.3f}{reading / len(records) * 1e6:>21.1f}"
        )


def memory(directory: Path, documents: list[tuple[str, ...]], sizes: list[int]) -> None:
    """Peak resident memory of a whole `prepare`, vocabulary training included, in a process of its own."""
    program = (
        "import resource, sys\n"
        "from albert_jax.__main__ import main\n"
        "main(['prepare', *sys.argv[1:]])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    print()
    for size in sizes:
        corpus = directory / f"{size}.txt"
        write_text(corpus, documents, size * _MEGABYTE)
        command = ["--corpus", str(corpus), "--out", str(directory / str(size)), "--workers", "1"]
        command += ["--vocab-size", "4000"]  # as many as so few different sentences can give
        started = time.perf_counter()
        output = subprocess.run(
            [sys.executable, "-c", program, *command],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        ).stdout
        peak = int(output.split()[-1]) / 1024
        seconds = time.perf_counter() - started
        print(f"prepare, {size:>4} MB of text            {peak:>12,.0f} MiB at most, {seconds:,.0f} s in all")
        corpus.unlink()


def best(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
