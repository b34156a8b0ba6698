"""Makes the directories that stand beside this file: what albert_jax at commit 6e13823 wrote to disk, and what it
answered from it. `tests/test_stored_by_6e13823.py` asks later versions for the same answers.

    git clone REPOSITORY old && git -C old checkout 6e13823
    python make_6e13823.py old stored_6e13823

The Python must have the packages of that commit's requirements.txt, Optuna among them, and run on a CPU; it takes some
minutes. All runs are tiny and name their files by paths relative to the directory that holds them, so that this may be
copied anywhere. Times and speeds in the files differ from one making to the next, and on another processor the last
digits of parameters.

    text.txt corpus/            a text and the prepared directory of it
    pretrain/                   a pretraining run: LAMB, dropout, 12 steps, with its checkpoints of steps 8 and 12
    classification(_data)/      one of three classes, from pretrain/, with its TSV files
    regression(_data)/          a number, from pretrain/
    tagging(_data)/             names and places, from pretrain/, with its CoNLL files; the best checkpoint and the last
    search/ labels_data/        two trials with several labels a text, from random values, on a WordPiece vocabulary
    converted/ hf/ tf1/         pretrain/ by `convert`, in the three formats
    texts.txt sentences.txt     what `predict` is asked
    expected.json expected.npz  answers, commands to give again, and where VOCABULARY belongs

The SentencePiece file of a quarter of a megabyte (nearly all of it SentencePiece's own table of characters) is the same
in all of them. It is kept in corpus/ alone; `expected.json` lists the other places, under "vocabulary". Removed is what
albert_jax never reads back: reports, plots, hf/tokenizer.json, the lock of the search.
"""

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

COMMIT = "6e13823"
VOCABULARY = "corpus/vocab/vocab.model"
TIMED = ("second", "share")  # of these are the names of the metrics that a clock makes
FINE_TUNED = ("classification", "regression", "tagging")

# ---- commands: given here, and some again by the test

QUIET = ["--telemetry.no-tensorboard", "--mesh.devices", "1"]
PREPARE = ["prepare", "--corpus", "text.txt", "--out", "corpus", "--vocab-size", "200", "--workers", "1",
           "--validation", "0.2", "--test", "0.2"]  # fmt: skip
SHAPE = ["--model.hidden-size", "16", "--model.embedding-size", "8", "--model.feed-forward-size", "32",
         "--model.layers", "2", "--model.heads", "2", "--model.max-positions", "32",
         "--model.initializer-range", "0.2"]  # fmt: skip
PRETRAIN = ["train", "--config", "configs/demo.py", "--workdir", "pretrain", "--name", "stored pretraining", *SHAPE,
            "--model.hidden-dropout", "0.1", "--model.attention-dropout", "0.1", "--task.data", "corpus",
            "--task.pairs.max-length", "32", "--task.eval-examples", "16", "--optim.peak-lr", "0.02",
            "--optim.schedule.warmup-steps", "3", "--steps", "12", "--batch-size", "8", "--eval-batch-size", "8",
            "--eval-every", "4", "--checkpoint.every", "4", "--checkpoint.keep", "2",
            "--telemetry.log-every", "1", *QUIET]  # fmt: skip


def fine_tuning(verb: str, config: str, workdir: str, data: str, ending: str, *more: str) -> list[str]:
    """The command that fine-tunes on the files of `data`; all that a recipe decides is said in it."""
    files = [word for split in ("train", "dev", "test") for word in (f"--task.{split}", f"{data}/{split}.{ending}")]
    return [verb, "--config", f"configs/{config}.py", "--workdir", workdir, *files, "--task.max-length", "24",
            "--optim.schedule.warmup-share", "0.1", "--epochs", "0", "--batch-size", "16", "--checkpoint.every", "1000",
            "--checkpoint.keep", "1", *QUIET, *more]  # fmt: skip


FROM = ["--init", "pretrain", "--optim.peak-lr", "0.02", "--telemetry.log-every", "20"]
RUNS = (
    fine_tuning("train", "finetune_classification", "classification", "classification_data", "tsv", *FROM,
                "--name", "stored classification", "--steps", "80", "--eval-every", "80"),
    fine_tuning("train", "finetune_classification", "regression", "regression_data", "tsv", *FROM,
                "--name", "stored regression", "--task.target", "number", "--steps", "80", "--eval-every", "80"),
    fine_tuning("train", "finetune_tagging", "tagging", "tagging_data", "conll", *FROM,
                "--name", "stored tagging", "--steps", "80", "--eval-every", "20", "--seed", "1"),
)  # fmt: skip
SEARCH = fine_tuning("search", "finetune_classification", "search", "labels_data", "tsv", *SHAPE,
                     "--no-model-of-init", "--from-scratch", "--task.vocab", "labels_data/vocab.txt",
                     "--task.target", "labels", "--name", "stored search", "--steps", "20", "--eval-every", "20",
                     "--space", "optim.peak_lr=log(1e-2,1e-1) batch_size=[8,16]", "--trials")  # fmt: skip

# ---- texts

OTHERS = ["the", "and", "for", "are", "that", "with", "not", "can", "all", "may", "used", "one", "any", "first"]
MARKS = {"a": "class", "b": "value", "c": "object"}  # the word that tells the class
NAMES, TOWNS = ["function", "class", "value"], ["exception", "call", "method"]
TEXTS = [
    "the class that may be used",
    '{"text": "not all are one object"}',
    "Any VALUE, and the first?",
    "used for the object and " * 6 + "a value",
]
SENTENCES = [
    "The function key may call, and class!",
    '{"words": ["value", "key", "not", "the", "exception"]}',
    "one method for all",
    "and the value key used with any method that can not be the first class " * 2,
]


def short_documents(checkout: Path, count: int) -> str:
    """Real English, a sentence a line: short topics of Python's own help, from the checkout's tests."""
    blocks = gzip.decompress((checkout / "tests/data/python_topics.txt.gz").read_bytes()).decode("utf-8").split("\n\n")
    chosen = [block for block in blocks if 200 < len(block) < 900 and block.count("\n") > 2]
    return "\n\n".join(chosen[:count]) + "\n"


def write_labelled(folder: Path, label: str) -> None:
    """train.tsv, dev.tsv and test.tsv, whose labels are told by words of the texts."""
    folder.mkdir()
    for name, count, seed in (("train", 120, 1), ("dev", 24, 2), ("test", 24, 3)):
        rng, lines = random.Random(seed), ["text\tlabel"]
        for _ in range(count):
            marks = [mark for mark in MARKS if rng.random() < 0.5] if label == "labels" else [rng.choice(list(MARKS))]
            many = rng.randint(1, 3)
            words = [*rng.choices(OTHERS, k=rng.randint(2, 6)), *(MARKS[mark] for mark in marks * many)]
            rng.shuffle(words)
            told = {"class": marks[:1], "labels": marks, "number": [str(100 + 10 * words.count("class"))]}[label]
            lines.append(" ".join(words) + "\t" + ",".join(told))
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def write_tagged(folder: Path) -> None:
    """train.conll, dev.conll and test.conll: names are PER, with the word after them if that is key; towns are LOC."""
    folder.mkdir()
    for name, count, seed in (("train", 120, 1), ("dev", 24, 2), ("test", 24, 3)):
        rng, lines = random.Random(seed), ["-DOCSTART- O", ""]
        for _ in range(count):
            for _ in range(rng.randint(2, 4)):
                if rng.random() < 0.4:
                    lines += [f"{rng.choice(NAMES)} B-PER"] + ["key I-PER"] * (rng.random() < 0.5)
                elif rng.random() < 0.5:
                    lines.append(f"{rng.choice(TOWNS)} B-LOC")
                lines += [f"{rng.choice(OTHERS)} O" for _ in range(rng.randint(1, 2))]
            lines.append("")
        (folder / f"{name}.conll").write_text("\n".join(lines))


def write_wordpieces(file: Path) -> None:
    """A WordPiece vocabulary: the words, and single letters."""
    letters = [chr(ord("a") + number) for number in range(26)]
    words = sorted({*OTHERS, *MARKS.values(), *NAMES, *TOWNS} - set(letters))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    file.write_text("\n".join(pieces) + "\n")


# ---- answers

# Prints nothing; writes the outputs of albert_jax.load(PLACE, head=HEAD) on the batch of BATCH to OUT.
LOAD = """
import sys
import numpy as np
import albert_jax
place, head, batch, out = sys.argv[1:]
model, tokenizer = albert_jax.load(place, head=head)
given = dict(np.load(batch))
if head != "pretrain":
    del given["positions"]
found = model(**given)
np.savez(out, **{name: value for name, value in found._asdict().items() if value is not None})
"""


class Old:
    """The version of `checkout`, run in the directory `out`."""

    def __init__(self, checkout: Path, out: Path, scratch: Path):
        self.out, self.scratch = out, scratch
        self._environment = os.environ | {
            "PYTHONPATH": str(checkout),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
        }

    def python(self, *words: str, cwd: Path | None = None) -> str:
        """Standard output of Python with `words`; standard error passes through."""
        return subprocess.run(
            [sys.executable, *words], cwd=cwd or self.out, env=self._environment, check=True, text=True, stdout=-1
        ).stdout

    def __call__(self, *words: str, cwd: Path | None = None) -> str:
        """Standard output of a verb."""
        print("albert_jax", *words[:6], flush=True)
        return self.python("-m", "albert_jax", *words, cwd=cwd)

    def outputs(self, place: str, head: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the model of `place` makes of `batch`."""
        np.savez(self.scratch / "batch.npz", **batch)
        self.python("-c", LOAD, place, head, str(self.scratch / "batch.npz"), str(self.scratch / "outputs.npz"))
        with np.load(self.scratch / "outputs.npz") as found:
            return dict(found)


def records(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def fixed_batch() -> dict[str, np.ndarray]:
    """Two rows, of two texts, the second row padded."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 70, (2, 12)).astype(np.int32)
    ids[:, 0], ids[0, 7], ids[0, 11], ids[1, 8], ids[1, 9:] = 2, 3, 3, 3, 0
    segments = np.zeros_like(ids)
    segments[0, 8:] = 1
    return {"input_ids": ids, "segment_ids": segments, "mask": ids > 0, "positions": np.array([[1, 4, 9], [2, 3, 8]])}


def continued_search(old: Old) -> dict:
    """What a third trial of a copy draws and reaches."""
    copy = old.scratch / "again"
    shutil.copytree(old.out, copy, symlinks=True)
    said = old(*SEARCH, "3", cwd=copy).splitlines()
    seen = [record for record in records(copy / "search/trial-002/metrics.jsonl") if record["kind"] == "validation"]
    return {
        "drawn": next(line for line in said if line.startswith("trial 2: ")),
        "validation": [seen_of(record) for record in seen],
        "table": (copy / "search/search.txt").read_text(),
    }


def seen_of(record: dict) -> dict:
    """A record of metrics.jsonl without what a clock measured."""
    return {name: value for name, value in record.items() if not any(word in name for word in TIMED)}


def tidy(out: Path, vocabulary: Sequence[str]) -> None:
    """Removes what nobody reads back: reports, pictures, locks, and the vocabulary's other copies."""
    for report in [*out.rglob("report"), *out.rglob("tensorboard")]:
        shutil.rmtree(report)
    for pattern in ("*.png", "*.lock", "tokenizer.json"):
        for file in out.rglob(pattern):
            file.unlink()
    for place in vocabulary:
        (out / place).unlink()
    (out / "configs").unlink()


def copies(out: Path) -> Iterable[str]:
    """The other places of the vocabulary."""
    bytes_of = (out / VOCABULARY).read_bytes()
    for file in sorted(out.rglob("*.model")):
        if file != out / VOCABULARY:
            assert file.read_bytes() == bytes_of, file
            yield str(file.relative_to(out))


def main(checkout: Path, out: Path, scratch: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, check=True, text=True, stdout=-1).stdout
    assert head.startswith(COMMIT), f"{checkout} is at {head.strip()}, not at {COMMIT}"
    out.mkdir()
    scratch.mkdir()
    (out / "configs").symlink_to(checkout / "configs")
    old = Old(checkout, out, scratch)

    (out / "text.txt").write_text(short_documents(checkout, 40), encoding="utf-8")
    for label, name in (("class", "classification"), ("number", "regression"), ("labels", "labels")):
        write_labelled(out / f"{name}_data", label)
    write_tagged(out / "tagging_data")
    write_wordpieces(out / "labels_data/vocab.txt")
    (out / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    (out / "sentences.txt").write_text("\n".join(SENTENCES) + "\n")

    old(*PREPARE)
    old(*PRETRAIN)
    for words in RUNS:
        old(*words)
    old(*SEARCH, "2")
    for place, form in (("converted", "albert_jax"), ("hf", "hf"), ("tf1", "tf1")):
        old("convert", "pretrain", place, "--to", form)
    for place in ("pretrain", *FINE_TUNED):
        old("evaluate", "--workdir", place, "--split", "test")

    expected = {"commit": COMMIT, "vocabulary": list(copies(out))}
    expected["commands"] = {"prepare": PREPARE, "search": [*SEARCH, "3"]}
    expected["prepare"] = old(*PREPARE)
    places = ["corpus", "corpus/vocab", "pretrain", "pretrain/checkpoints/8", *FINE_TUNED, "search/trial-001",
              "search/trial-001/vocab", "converted", "hf/spiece.model",
              *(str(file.relative_to(out)) for file in sorted((out / "tf1").glob("*.model")))]  # fmt: skip
    expected["inspect"] = {place: old("inspect", place) for place in places}
    expected["predict"] = {}
    for place in (*FINE_TUNED, "search/trial-001"):
        asked = "sentences.txt" if place == "tagging" else "texts.txt"
        old("predict", "--workdir", place, "--input", asked, "--output", str(scratch / "answers.jsonl"))
        expected["predict"][place] = {"input": asked, "records": records(scratch / "answers.jsonl")}
    expected["evaluate"] = {}
    for place in ("pretrain", *FINE_TUNED):
        expected["evaluate"][place] = json.loads((out / place / "evaluation-test.json").read_text())["scores"]
    expected["compare"] = old("compare", "pretrain", *FINE_TUNED)
    starts = {"pretrain": 8, "tagging": min(int(folder.name) for folder in (out / "tagging/checkpoints").iterdir())}
    expected["continued"] = {}
    for place, start in starts.items():
        later = [seen_of(r) for r in records(out / place / "metrics.jsonl") if r["step"] > start]
        assert later, "the best checkpoint is the last: try another seed"
        expected["continued"][place] = {"from": start, "records": [r for r in later if r["kind"] != "event"]}
    expected["search"] = continued_search(old)

    batch, arrays = fixed_batch(), {}
    arrays |= {f"batch.{name}": array for name, array in batch.items()}
    heads = {"pretrain": "pretrain", "converted": "pretrain", "hf": "pretrain", "tf1": "pretrain",
             "classification": "classification", "regression": "classification", "tagging": "tagging",
             "search/trial-001": "classification"}  # fmt: skip
    for place, head in heads.items():
        arrays |= {f"{place}.{name}": array for name, array in old.outputs(place, head, batch).items()}
    expected["heads"] = heads

    np.savez_compressed(out / "expected.npz", **arrays)
    (out / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    tidy(out, expected["vocabulary"])


if __name__ == "__main__":
    if len(sys.argv) != 3 or Path(sys.argv[2]).exists():
        sys.exit("usage: python make_6e13823.py CHECKOUT_OF_6e13823 NEW_DIRECTORY")
    with tempfile.TemporaryDirectory() as made:  # Orbax tells in commit_success.txt, which nobody reads, where it wrote
        main(Path(sys.argv[1]).resolve(), Path(made, "stored_6e13823"), Path(made, "scratch"))
        shutil.move(Path(made, "stored_6e13823"), sys.argv[2])
