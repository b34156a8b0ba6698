"""The command line as a person meets it: exit codes, one line for bad input, help for every verb."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from albert_jax.__main__ import VERBS, main
from albert_jax.commands import seeds
from albert_jax.commands.args import parse_experiment
from albert_jax.experiment import load_config
from tests.data.sample_text import write_corpus

ROOT = Path(__file__).parents[2]


def told(capsys, *words):
    """Exit code and standard error of a command that ends in an error."""
    code = main([str(word) for word in words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "error: there is no verb 'trian'; did you mean train? The verbs are prepare, train"),
        (["train"], "error: train needs --workdir DIR"),
        (["train", "--workdir", "nowhere"], "error: nowhere holds no run to continue; give --config"),
        (["train", "--config", "no.py", "--workdir", "x"], "error: no config file no.py"),
        (
            ["train", "--config", "configs/demo.py", "--workdir", "x", "--stepz", "3"],
            "there is no field --stepz; nearest",
        ),
        (["train", "--config", "configs/demo.py", "--workdir", "x", "--task.data", "gone"], "error: gone"),
        (
            ["evaluate"],
            "error: Required options Missing from albert_jax evaluate: --workdir STR directory of a train run",
        ),
        (
            ["seeds", "--n", "three"],
            "error: Error parsing --n: invalid literal for int() with base 10: 'three' Argument helptext: --n INT",
        ),
        (["seeds", "--workdir", "x"], "error: seeds needs --config configs/NAME.py; see albert_jax seeds --help"),
        (["train", "--workdir"], "error: Missing value for argument '--workdir'. Expected 1 values."),
        (["compare"], "error: compare needs workdirs that evaluate has scored; see albert_jax compare --help"),
        (["inspect", "a", "b"], "error: Unrecognized options: b"),
        (["evaluate", "--workdir", "nowhere"], "error: nowhere is not a workdir"),
        (["inspect", "nowhere"], "error: nowhere does not exist"),
        (["prepare", "--corpus", "gone.txt", "--out", "x"], "gone.txt"),
        (
            ["prepare", "--corpus", "gone.txt", "--out", "x", "--vocabsize", "9"],
            "there is no field --vocabsize; nearest: --vocab-size",
        ),
        (["bench", "--batch-size", "0"], "error: batch_size is 0; it must be at least 1"),
        (
            ["bench", "--size", "tiny", "--batch-size", "3"],
            "error: batch_size 3 does not divide over 8 parts (data 8) x 1 micro-batches; make it 8",
        ),
        (["bench", "--compute-dtype", "float8"], "invalid choice 'float8' for argument '--compute-dtype'"),
        (["frobnicate"], "error: there is no verb 'frobnicate'. The verbs are prepare, train"),
        (["compare", "nowhere"], "evaluation-test.json is missing; run: albert_jax evaluate"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(words, line, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    code, error = told(capsys, *words)
    assert code == 2
    assert line in error
    assert error.count("\n") == 1, error


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb):
    done = subprocess.run(
        [sys.executable, "-m", "albert_jax", verb, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout and verb in done.stdout


def test_help_of_train_shows_the_configs_values(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", str(ROOT / "configs" / "pretrain_xlarge.py"), "--help"])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert stop.value.code == 0
    assert "--model.hidden-size" in printed and "(default: 2048)" in printed
    assert "--optim.schedule.warmup-steps" in printed and "(default: 3125)" in printed


def test_help_of_train_shows_its_own_options_before_the_fields(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    flags = ("--config", "--dry-run", "--processes.coordinator", "Every field", "--batch-size")
    places = [printed.index(flag) for flag in flags]
    assert places == sorted(places)


def test_options_of_a_verb_and_fields_of_its_experiment_in_any_order():
    words = ["--optim.peak-lr=5e-3", "--n", "2", "--task.data", "x", "--name", "", "--split=dev", "--mesh.shape"]
    words += ['{"data": -1}', "--workdir", "w", "--config", str(ROOT / "configs" / "demo.py"), "--processes.index=-1"]
    options, experiment = parse_experiment(seeds.Options, words, "seeds")
    assert (options.n, options.split, options.workdir, options.processes.index) == (2, "dev", "w", -1)
    assert (experiment.optim.peak_lr, experiment.task.data, experiment.name) == (5e-3, "x", "")
    assert experiment.mesh.shape == {"data": -1} and experiment.model.layers == load_config(options.config).model.layers


def test_the_usage_and_a_wrong_option_do_not_wait_for_jax():
    code = """
import sys
from albert_jax.__main__ import main
assert main(["--help"]) == 0 and main(["predict", "--inputs", "x"]) == 2
print("jax" in sys.modules, "albert_jax.commands.train" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_memory_that_is_too_small_is_one_line(monkeypatch, capsys):
    import jax.numpy as jnp

    from albert_jax.commands import bench

    def asks(options):
        jnp.ones(1 << 45, jnp.float32).block_until_ready()
        return 0

    monkeypatch.setattr(bench, "run", asks)
    assert main(["bench"]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"error: the memory is too small \(.*140737488355328.*\); a smaller batch needs less.*\n", told)

    def fails(options):
        raise RuntimeError("another mistake")

    monkeypatch.setattr(bench, "run", fails)
    with pytest.raises(RuntimeError, match="another mistake"):
        main(["bench"])


def test_inspect_tells_what_is_there(corpus, tmp_path, capsys):
    assert main(["inspect", str(corpus)]) == 0
    assert "300" in capsys.readouterr().out
    assert main(["inspect", str(corpus / "vocab")]) == 0
    assert "[MASK]" in capsys.readouterr().out
    assert main(["inspect", "albert_jax/small"]) == 0
    assert "albert/embeddings/word" in (told := capsys.readouterr().out) and "16000 x 128" in told
    assert main(["inspect", "albert_jax/none"]) == 2
    assert "in the box there are albert_jax/small" in capsys.readouterr().err
    (tmp_path / "thing").mkdir()
    assert main(["inspect", str(tmp_path / "thing")]) == 2


def test_prepare_runs_and_says_that_it_is_done(tmp_path, capsys):
    text = write_corpus(tmp_path / "a.txt", 20)
    words = ["prepare", "--corpus", str(text), "--out", str(tmp_path / "out"), "--vocab-size", "200", "--workers", "1"]
    assert main(words) == 0
    assert "200 pieces" in capsys.readouterr().out
    assert main(words) == 0
    assert "already prepared, nothing to do" in capsys.readouterr().out
    words = ["prepare", "--corpus", str(text), "--out", str(tmp_path / "boxed"), "--vocab", "albert_jax/small"]
    assert main([*words, "--workers", "1"]) == 0
    assert "16,000 pieces" in capsys.readouterr().out


def test_a_machine_without_a_tpu_hears_no_complaint_of_libtpu():
    code = (
        "from albert_jax.commands.environment import set_up_jax; set_up_jax(); "
        "import jax; print(jax.devices()[0].platform)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout != "cpu\n" or done.stderr == ""
