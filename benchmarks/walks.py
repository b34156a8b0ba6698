"""How many functions and files of the package lie on three ways through it, counted while they are walked.

    python -m benchmarks.walks                       the package here
    python -m benchmarks.walks --against ../before   beside another checkout (git worktree add ../before 6e13823)

text line -> gradient            `prepare` of a text file, and one step of `train` on it
CSV row -> prediction            one step of fine-tuning on a CSV file, `evaluate`, and `predict` of a text
TF checkpoint -> hidden states   `load` of a TensorFlow 1 checkpoint, and a call of the model

A function counts once, however often it is called; comprehensions, lambdas and functions inside functions belong to the
function around them. Every way starts at the command line or at `albert_jax.load`.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "goldens" / "stored_6e13823"
SMALL = ["--model.hidden-size", "32", "--model.embedding-size", "16", "--model.layers", "1", "--model.heads", "2",
         "--model.feed-forward-size", "64", "--model.max-positions", "32", "--telemetry.no-tensorboard", "--steps", "1",
         "--mesh.devices", "1", "--batch-size", "4", "--eval-every", "0", "--optim.schedule.warmup-steps", "0",
         "--optim.schedule.warmup-share", "0"]  # fmt: skip


@contextlib.contextmanager
def counted(package: Path, found: set[tuple[str, str]]) -> Iterator[None]:
    """Adds (file, function) of every function of `package` that is called meanwhile, in any thread."""

    def profile(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(package)):
            return
        name = code.co_qualname.split(".<locals>")[0]
        if not name.startswith("<"):
            found.add((str(Path(code.co_filename).relative_to(package)), name))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def config(name: str) -> str:
    """A shipped config of the checkout whose package is imported."""
    import albert_jax

    return str(Path(albert_jax.__file__).parents[1] / "configs" / f"{name}.py")


def text_to_gradient(main: Callable[[list[str]], int]) -> None:
    assert main(["prepare", "--corpus", "text.txt", "--out", "corpus", "--vocab-size", "200", "--workers", "1",
                 "--validation", "0.2", "--test", "0.2"]) == 0  # fmt: skip
    assert main(["train", "--config", config("demo"), "--workdir", "pretrained", "--task.data", "corpus",
                 "--task.pairs.max-length", "32", "--task.eval-examples", "4", *SMALL]) == 0  # fmt: skip


def row_to_prediction(main: Callable[[list[str]], int]) -> None:
    rows = "\n".join(["text,label", *(f"the value of {n},{'ab'[n % 2]}" for n in range(8))])
    for name in ("train", "dev", "test"):
        Path(f"{name}.csv").write_text(rows + "\n", encoding="utf-8")
    files = [word for name in ("train", "dev", "test") for word in (f"--task.{name}", f"{name}.csv")]
    assert main(["train", "--config", config("finetune_classification"), "--workdir", "tuned", *files,
                 "--init", "pretrained", "--epochs", "0", "--task.max-length", "32", *SMALL]) == 0  # fmt: skip
    assert main(["evaluate", "--workdir", "tuned"]) == 0
    Path("texts.txt").write_text("the value\n", encoding="utf-8")
    assert main(["predict", "--workdir", "tuned", "--input", "texts.txt", "--output", "answers.jsonl"]) == 0


def checkpoint_to_states(main: Callable[[list[str]], int]) -> None:
    import albert_jax

    model, _ = albert_jax.load("tf1")
    assert model([[2, 5, 6, 3]]).hidden.shape[:2] == (1, 4)


WALKS = {
    "text line -> gradient": text_to_gradient,
    "CSV row -> prediction": row_to_prediction,
    "TF checkpoint -> hidden states": checkpoint_to_states,
}


def walk() -> dict[str, tuple[int, int]]:
    """Way -> (functions, files) of the package that this process imports."""
    import albert_jax
    from albert_jax.__main__ import main

    package = Path(albert_jax.__file__).parent
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(STORED, folder, dirs_exist_ok=True)
        shutil.rmtree(Path(folder) / "corpus")  # its place is taken by one that is prepared here
        os.chdir(folder)
        for name, way in WALKS.items():
            found: set[tuple[str, str]] = set()
            with counted(package, found), contextlib.redirect_stdout(io.StringIO()):
                way(main)
            counts[name] = (len(found), len({file for file, _ in found}))
    return counts


def walked(root: Path) -> dict[str, tuple[int, int]]:
    """The same of the checkout at `root`, in a process of its own."""
    code = "import json; from benchmarks.walks import walk; print(json.dumps(walk()))"
    path = os.pathsep.join([str(root.resolve()), str(ROOT)])
    # The package comes from `root`; this file from here, since an older checkout has none.
    script = (
        f"import sys; sys.path[:0] = [{str(root.resolve())!r}]; import albert_jax; sys.path[0] = {str(ROOT)!r}; {code}"
    )
    environment = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="root of another checkout")
    asked = parser.parse_args()
    roots = {"before": asked.against, "after": ROOT} if asked.against else {"here": ROOT}
    tables = {name: walked(root) for name, root in roots.items()}
    print(f"{'':32}" + "".join(f"{name + ': functions':>20}{'files':>8}" for name in tables))
    for way in WALKS:
        print(
            f"{way:32}"
            + "".join(f"{functions:>20}{files:>8}" for functions, files in (t[way] for t in tables.values()))
        )


if __name__ == "__main__":
    main()
