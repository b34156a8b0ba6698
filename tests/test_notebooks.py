"""The notebooks, run from top to bottom on a tiny model: they end in pictures, need no TensorFlow, carry no outputs."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tasks.test_tagging import write_sentences

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
TINY = (
    "--model.hidden-size 32 --model.feed-forward-size 64 --model.embedding-size 16 --model.heads 2 --batch-size 8 "
    "--optim.schedule.warmup-steps 3 --task.eval-examples 40 --telemetry.log-every 1 --telemetry.no-tensorboard"
)


def run(name: str, workplace: Path, **parameters) -> str:
    """What the notebook prints. One device, as in a notebook; `workplace` is the current directory."""
    flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "run_notebook.py", ROOT / "colab" / name, json.dumps(parameters)],
        cwd=workplace,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def pictures(workplace: Path, count: int) -> list[np.ndarray]:
    """What the notebook displayed, [H, W, 4]; each shows something."""
    paths = sorted(workplace.glob("shown-*.png"))
    assert len(paths) == count
    found = [np.asarray(Image.open(path).convert("RGBA")) for path in paths]
    assert all(len(np.unique(picture.reshape(-1, 4), axis=0)) > 20 for picture in found)
    return found


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The current directory of an executed pretrain.ipynb, and what it printed."""
    workplace = tmp_path_factory.mktemp("pretrain")
    parameters = {"CORPUS": "pydocs:optax,tyro", "VOCAB_SIZE": 500, "STEPS": 12, "FIELDS": TINY.split()}
    return workplace, run("pretrain.ipynb", workplace, **parameters)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_stripped_and_without_tensorflow(path):
    """The rules of nbformat 4.5 that a hand or a tool breaks."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            assert set(cell) == {"cell_type", "id", "metadata", "source"}
            continue
        assert set(cell) == {"cell_type", "execution_count", "id", "metadata", "outputs", "source"}
        assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "torch")]
    tagged = [cell["id"] for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    assert ids[1] == "install" and tagged == ["parameters"]


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        (
            None,
            "albert_jax is not installed here: write the address of your copy of the repository into REPOSITORY above",
        ),
        (
            "no/such/place",
            "git clone --depth 1 no/such/place albert_jax_repository failed: fatal: repository 'no/such/",
        ),
    ],
)
def test_what_the_install_cell_cannot_do_is_one_line(repository, said, tmp_path):
    cells = [json.loads(path.read_text(encoding="utf-8"))["cells"][1] for path in NOTEBOOKS]
    code = "".join(cells[0]["source"])
    assert [cell["id"] for cell in cells] == ["install"] * 3
    assert all("".join(cell["source"]) == code for cell in cells)
    if repository:
        code = code.replace("https://github.com/OWNER/albert_jax", repository)
    # -S: without the packages of this environment, albert_jax among them
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_all_three_are_there():
    assert [path.name for path in NOTEBOOKS] == ["finetune_ner.ipynb", "pretrain.ipynb", "probe_checkpoint.ipynb"]


def test_pretrain_ends_in_curves(pretrained):
    workplace, said = pretrained
    pictures(workplace, 3)
    records = [json.loads(line) for line in (workplace / "runs/notebook/pretrain/metrics.jsonl").open()]
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    # Means of four: from the pieces' frequencies, where it begins, a step of 8 examples gains less than it deviates.
    assert len(losses) == 12 and sum(losses[-4:]) < sum(losses[:4]), losses
    assert "12 steps of 8 examples" in said and "mlm_accuracy" in said


def test_finetune_tags_a_users_own_files(pretrained, tmp_path):
    files = {
        name: [write_sentences(tmp_path / f"{name}.conll", count, seed)]
        for seed, (name, count) in enumerate({"TRAIN": 400, "DEV": 40, "TEST": 40}.items())
    }
    (files["DEV"],) = files["DEV"]  # a single file without brackets
    init = str(pretrained[0] / "runs" / "notebook" / "pretrain")
    fields = ["--task.max-length", "48", "--telemetry.no-tensorboard"]
    changes = {"INIT": init, "PEAK_LR": 1e-2, "EPOCHS": 8, "SENTENCES": ["the function key may call"], "FIELDS": fields}
    said = run("finetune_ner.ipynb", tmp_path, **files, **changes)
    pictures(tmp_path, 3)
    evaluation = json.loads((tmp_path / "runs/notebook/tagging/evaluation-test.json").read_text())
    assert evaluation["scores"]["f1"] > 0.7  # it learns
    for tag in ("B-LOC", "B-PER", "I-PER", "macro avg"):
        assert f"\n {tag} " in said
    assert "the function key may call   ->   function" in said and "(PER, " in said


def test_finetune_without_files_tags_code_mentions(pretrained):
    workplace = pretrained[0]
    fields = [
        "--task.max-length",
        "32",
        "--task.examples",
        "64",
        "--task.eval-examples",
        "32",
        "--telemetry.no-tensorboard",
    ]
    for old in workplace.glob("shown-*.png"):
        old.unlink()
    said = run("finetune_ner.ipynb", workplace, EPOCHS=1, FIELDS=fields)
    pictures(workplace, 3)
    assert "pretrain is done: 12 of 12 steps" in said  # found, not pretrained again
    assert "\n I-CODE " in said and "micro avg" in said


def test_probe_answers_and_draws_every_head(pretrained, tmp_path):
    said = run("probe_checkpoint.ipynb", tmp_path, MODEL=str(pretrained[0] / "runs" / "notebook" / "pretrain"))
    pictures(tmp_path, 1)
    assert (tmp_path / "runs" / "notebook" / "attention.png").exists()
    for line in ("function  ", "[MASK] of items", "(written: ", "as written", "swapped"):
        assert line in said
