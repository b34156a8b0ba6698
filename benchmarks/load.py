"""Time and memory of `albert_jax.load` on a model of ALBERT-base's size, in each format.

    python benchmarks/load.py

Weights are random, which costs the same. Each load runs in a fresh process. "seconds" is the call of `load`, "whole"
the process from its start, with all libraries imported. "memory" is what the process's peak rose by during the call,
and that as a multiple of the parameters' bytes.

A workdir takes more than the others. Its arrays lie in the checkpoint as one compressed chunk each, so that TensorStore
holds an array twice while it decompresses it, in the memory of several threads, and glibc keeps what such a thread
frees. The row "workdir, mapped" is the same load with MALLOC_MMAP_THRESHOLD_=1000000 in the environment, under which
glibc gives back what is freed; `load` does not set that itself, since it holds for the whole process and costs a
training step on a CPU a quarter of its speed (`albert_jax/commands/environment.py`). About 10 MB of either are
Orbax's threads, whatever the model's size. Orbax's own reader takes more yet: it reads all NumPy arrays at once and
heeds `read_concurrent_bytes` for arrays of JAX only, of which it then holds two copies on a CPU.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from albert_jax import experiment as experiments
from albert_jax.engine.checkpoint import Checkpoints
from albert_jax.engine.state import TrainState
from albert_jax.interop import directory, google, hf
from albert_jax.interop.names import our_shape, table
from albert_jax.interop.safetensors import aligned
from albert_jax.interop.source import LoadedModel
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.telemetry.tables import format_table

CHILD = """
import sys, time
import jax, albert_jax
import albert_jax.experiment, albert_jax.interop.load, albert_jax.interop.directory
jax.devices()
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before, start = peak(), time.perf_counter()
model, _ = albert_jax.load(sys.argv[1], head="pretrain")
jax.block_until_ready(model.params)
print(time.perf_counter() - start, peak() - before)
"""


def source(config: AlbertConfig) -> LoadedModel:
    """A model for pretraining with random weights."""
    params = {}
    random = np.random.default_rng(0)
    for row in table(config):
        if row.part in ("classifier", "span"):
            continue
        params[row.ours] = aligned(tuple(size or 2 for size in our_shape(row, config)))
        params[row.ours][...] = 0.02 * random.standard_normal(params[row.ours].shape, np.float32)
    return LoadedModel("random weights", "albert_jax", config, params, "pretrain", (), "", None)


def write_run(workdir: Path, model: LoadedModel) -> None:
    """A workdir with a checkpoint of step 1."""
    experiment = dataclasses.replace(experiments.example(), model=model.config)
    (workdir / experiments.FILE).write_text(json.dumps(experiments.to_dict(experiment)))
    params = traverse_util.unflatten_dict({tuple(path.split("/")): array for path, array in model.params.items()})
    params = jax.tree.map(jnp.asarray, params)
    moments = experiment.optim.build(2, params).init(params)
    checkpoints = Checkpoints(workdir, writing=True)
    checkpoints.save(TrainState(jnp.int32(1), params, moments, jnp.int32(0)), {"ranking": ["loss", False]})
    checkpoints.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base", help="base, large, xlarge or xxlarge (default: base)")
    parser.add_argument("--repeats", type=int, default=3, help="loads of which the median is told (default: 3)")
    asked = parser.parse_args()
    model = source(albert(asked.size))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        size = sum(array.nbytes for array in model.params.values())
        mapped = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
        for name, write, environment in (
            ("Hugging Face", hf.write, {}),
            ("Google", google.write, {}),
            ("albert_jax", directory.write, {}),
            ("workdir", write_run, {}),
            ("workdir, mapped", write_run, mapped),
        ):
            path = Path(folder) / name.replace(" ", "_")
            path.mkdir()
            write(path, model)
            words = [sys.executable, "-c", CHILD, str(path)]
            found = []
            for _ in range(asked.repeats):
                start = time.perf_counter()
                told = subprocess.run(
                    words, capture_output=True, text=True, check=True, env=os.environ | environment
                ).stdout.split()
                found.append((*map(float, told), time.perf_counter() - start))
            seconds, memory, whole = np.median(found, axis=0)
            cells = f"{size / 1e6:.1f}", f"{seconds:.2f}", f"{whole:.2f}", f"{memory / 1e6:.1f}", f"{memory / size:.2f}"
            rows.append((name, *cells))
    print(
        format_table(("directory", "MB", "seconds", "whole", "memory MB", "x"), rows, f"albert_jax.load, {asked.size}")
    )


if __name__ == "__main__":
    main()
