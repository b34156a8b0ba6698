"""Time and memory of `albert_jax.load` on a directory of ALBERT-base's size, in each format.

    python benchmarks/load.py

Weights are random, which costs the same. Each load runs in a fresh process. "seconds" is the call of `load`, "whole"
the process from its start, with Python, JAX and Flax imported. "memory" is what the process's peak rose by during the
call, and that as a multiple of the directory's size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from albert_jax.interop import directory, google, hf
from albert_jax.interop.names import our_shape, table
from albert_jax.interop.source import Source
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.safetensors import aligned
from albert_jax.summary import format_table

CHILD = """
import sys, time
import jax, albert_jax
import albert_jax.interop.load
jax.devices()
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before, start = peak(), time.perf_counter()
model, _ = albert_jax.load(sys.argv[1], head="pretrain")
jax.block_until_ready(model.params)
print(time.perf_counter() - start, peak() - before)
"""


def source(config: AlbertConfig) -> Source:
    """A model for pretraining with random weights."""
    params = {}
    random = np.random.default_rng(0)
    for row in table(config):
        if row.part in ("classifier", "span"):
            continue
        params[row.ours] = aligned(tuple(size or 2 for size in our_shape(row, config)))
        params[row.ours][...] = 0.02 * random.standard_normal(params[row.ours].shape, np.float32)
    return Source("random weights", "albert_jax", config, params, "pretrain", (), "", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base", help="base, large, xlarge or xxlarge (default: base)")
    parser.add_argument("--repeats", type=int, default=3, help="loads of which the median is told (default: 3)")
    asked = parser.parse_args()
    model = source(albert(asked.size))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, write in (("Hugging Face", hf.write), ("Google", google.write), ("albert_jax", directory.write)):
            path = Path(folder) / name.replace(" ", "_")
            path.mkdir()
            write(path, model)
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            words = [sys.executable, "-c", CHILD, str(path)]
            found = []
            for _ in range(asked.repeats):
                start = time.perf_counter()
                told = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ).stdout.split()
                found.append((*map(float, told), time.perf_counter() - start))
            seconds, memory, whole = np.median(found, axis=0)
            cells = f"{size / 1e6:.1f}", f"{seconds:.2f}", f"{whole:.2f}", f"{memory / 1e6:.1f}", f"{memory / size:.2f}"
            rows.append((name, *cells))
    print(
        format_table(("directory", "MB", "seconds", "whole", "memory MB", "x"), rows, f"albert_jax.load, {asked.size}")
    )


if __name__ == "__main__":
    main()
