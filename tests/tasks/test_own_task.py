"""A kind of task that the package does not know: docs/own_task.py, trained, and opened when the file is gone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import albert_jax
from albert_jax import experiment as experiments
from albert_jax.__main__ import main
from albert_jax.errors import AlbertError
from tests.data.sample_text import documents

ROOT = Path(__file__).parents[2]
SMALL = ["--model.hidden-size", "32", "--model.embedding-size", "16", "--model.layers", "1", "--model.heads", "2",
         "--model.feed-forward-size", "64", "--model.max-positions", "64", "--task.max-length", "48",
         "--no-model-of-init", "--from-scratch", "--epochs", "60", "--optim.peak-lr", "1e-2",
         "--telemetry.no-tensorboard"]  # fmt: skip


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A workdir of the example, whose config file is no more."""
    folder = tmp_path_factory.mktemp("own")
    words = " ".join(" ".join(document) for document in documents()).split()
    texts = [" ".join(words[17 * n : 17 * n + 1 + 7 * n % 20]) for n in range(300)]
    for split, part in (("train", texts[:240]), ("dev", texts[240:270]), ("test", texts[270:])):
        (folder / f"{split}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    shutil.copyfile(ROOT / "docs" / "own_task.py", folder / "my_task.py")
    files = [word for split in ("train", "dev", "test") for word in (f"--task.{split}", str(folder / f"{split}.txt"))]
    words = ["train", "--config", str(folder / "my_task.py"), "--workdir", str(folder / "run")]
    assert main([*words, *files, "--task.vocab", str(corpus / "vocab"), *SMALL]) == 0
    (folder / "my_task.py").unlink()
    return folder / "run"


def test_it_learns_and_is_scored_beside_its_baseline(run, capsys):
    assert main(["evaluate", "--workdir", str(run)]) == 0
    assert "within_one" in capsys.readouterr().out
    record = json.loads((run / "evaluation-test.json").read_text())
    counts = [
        len(json.loads(line)["text"].split()) for line in (run / "predictions-test.jsonl").read_text().splitlines()
    ]
    mean = sum(counts) / len(counts)
    deviation = (sum((count - mean) ** 2 for count in counts) / len(counts)) ** 0.5
    assert record["baselines"]["rmse"] == pytest.approx(deviation, rel=1e-5)
    assert record["scores"]["rmse"] < 0.6 * deviation


def test_another_process_opens_it_by_the_copy_in_the_workdir(run):
    assert (run / "config.py").read_text() == (ROOT / "docs" / "own_task.py").read_text()
    command = [sys.executable, "-m", "albert_jax", "predict", "--workdir", str(run)]
    texts = ["the call", " ".join(" ".join(documents()[3]).split()[20:36]), ""]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(texts) + "\n", capture_output=True, text=True)
    short, long, empty = map(json.loads, done.stdout.splitlines())
    assert short["text"] == "the call" and abs(short["words"] - 2) < 4 and abs(long["words"] - 16) < 4
    assert "error" in empty and done.returncode == 2


def test_it_is_continued_loaded_and_not_mistaken_for_another(run, capsys, tmp_path):
    assert main(["train", "--workdir", str(run)]) == 0 and "is done" in capsys.readouterr().out
    model, tokenizer = albert_jax.load(run)
    assert model([[tokenizer.cls_id, tokenizer.sep_id]]).hidden.shape == (1, 2, 32)
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "config.py").write_text("raise RuntimeError('changed')\n")
    with pytest.raises(AlbertError, match=r"config\.py, line 1: cannot be loaded: RuntimeError: changed"):
        experiments.read(tmp_path / "copy")
    (tmp_path / "copy" / "config.py").write_text("")
    text = (tmp_path / "copy" / "experiment.json").read_text()
    (tmp_path / "copy" / "experiment.json").write_text(text.replace("WordCount", "Counting"))
    with pytest.raises(AlbertError, match="there is no task 'Counting' in this version, and no config.py that has it"):
        experiments.read(tmp_path / "copy")
