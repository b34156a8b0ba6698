"""Speed of this checkout beside another, as ratios of one run: both take turns, so that a slow hour slows both.

    python -m benchmarks.paired --against ../before      (git worktree add ../before 6e13823)

step       `bench`: a training step of ALBERT-base, 8 x 128; seconds of the median step
prepare    `prepare` of 6 MB of text, one worker, vocabulary given; seconds of the whole command
load       `albert_jax.load` of a TensorFlow checkpoint in a new process; seconds with imports
predict    `predict` of 20,000 texts by a stored classifier; seconds of the whole command

A ratio above 1 means that this checkout is slower. The spread over the turns stands beside it.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.data.sample_text import documents

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "goldens" / "stored_6e13823"


def run(root: Path, *words: str, cwd: Path) -> tuple[float, str]:
    """Seconds and output of `python WORDS` with the package of `root`."""
    environment = os.environ | {"PYTHONPATH": str(root.resolve()), "JAX_PLATFORMS": "cpu"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{root}: {' '.join(words)}\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def step(root: Path, folder: Path) -> float:
    _, printed = run(root, "-m", "albert_jax", "bench", "--batch-size", "8", "--steps", "6", cwd=folder)
    found = re.search(r"tokens/s \(median step\)\D+([\d,]+)", printed)
    if found is None:
        raise SystemExit(f"no tokens/s in what bench printed:\n{printed}")
    return 8 * 128 / int(found[1].replace(",", ""))


def prepare(root: Path, folder: Path) -> float:
    out = folder / "prepared"
    shutil.rmtree(out, ignore_errors=True)
    words = ["--corpus", "long.txt", "--out", str(out), "--vocab", "corpus/vocab", "--workers", "1"]
    return run(root, "-m", "albert_jax", "prepare", *words, cwd=folder)[0]


def load(root: Path, folder: Path) -> float:
    code = "import albert_jax; model, _ = albert_jax.load('tf1'); model([[2, 5, 3]])"
    return run(root, "-c", code, cwd=folder)[0]


def predict(root: Path, folder: Path) -> float:
    words = ["--workdir", "classification", "--input", "many.txt", "--output", "answers.jsonl"]
    return run(root, "-m", "albert_jax", "predict", *words, cwd=folder)[0]


def workplace(folder: Path) -> None:
    """What 6e13823 stored, a long text and many short ones."""
    shutil.copytree(STORED, folder, dirs_exist_ok=True)
    # The stored runs share one vocabulary file, kept once.
    vocabulary = folder / "classification" / "vocab"
    shutil.copytree(folder / "corpus" / "vocab", vocabulary, dirs_exist_ok=True)
    texts = ["\n".join(document) for document in documents()]
    once = "\n\n".join(texts)
    copies = 6_000_000 // len(once)
    # Numbered, since `prepare` divides documents by their names and a text that repeats is not what it reads.
    (folder / "long.txt").write_text("\n\n".join(text + f"\nCopy {n}." for n in range(copies) for text in texts))
    lines = [line for document in documents() for line in document]
    (folder / "many.txt").write_text("\n".join(lines[n % len(lines)] for n in range(20_000)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="root of the other checkout")
    parser.add_argument("--turns", type=int, default=3, help="times that each is run (default: 3)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workplace(folder)
        print(f"{'':10}{'before, s':>12}{'here, s':>12}{'ratio':>8}   least to greatest ratio")
        for measure in (step, prepare, load, predict):
            pairs = [(measure(asked.against, folder), measure(ROOT, folder)) for _ in range(asked.turns)]
            ratios = [here / before for before, here in pairs]
            before, here = (statistics.median(column) for column in zip(*pairs, strict=True))
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"{measure.__name__:10}{before:12.3f}{here:12.3f}{statistics.median(ratios):8.2f}   {spread}",
                flush=True,
            )


if __name__ == "__main__":
    main()
