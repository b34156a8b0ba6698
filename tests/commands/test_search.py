"""Search: spaces and their errors, trials that are workdirs, interruption, pruning, runs that diverge."""

import dataclasses
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import matplotlib.image
import optuna
import pytest

from albert_jax import experiment as experiments
from albert_jax.__main__ import main
from albert_jax.commands.search import search
from albert_jax.commands.space import apply, read_space
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.engine.checkpoint import open_for_reading
from albert_jax.engine.sharding import MeshConfig
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate
from albert_jax.optim import AdamW, Schedule
from albert_jax.telemetry.records import read_metrics
from tests import tiny
from tests.tasks import test_classification_files as labelled

SPACE = "optim.peak_lr=log(1e-3, 1e-2) batch_size=[8,16]"


def small(files, **changes):
    """Twelve steps, evaluated every four."""
    base = labelled.tiny(files, steps=12, epochs=0.0, eval_every=4)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def files(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    for name, count, seed in (("train", 80, 1), ("dev", 30, 2), ("test", 20, 3)):
        labelled.write_tsv(folder / f"{name}.tsv", labelled.rows(count, seed))
    Tokenizer.load(corpus / "vocab").save(folder / "vocab")
    return folder


def validations(workdir):
    return [record for record in read_metrics(workdir) if record["kind"] == "validation"]


def states(workdir):
    with sqlite3.connect(workdir / "search.db") as base:
        return [state for (state,) in base.execute("select state from trials order by number")]


# ---- spaces


def test_a_space_and_the_experiments_it_makes(files):
    text = (
        "optim.peak_lr=log(1e-5, 1e-4)  batch_size=[16,32] optim.weight-decay = uniform(0,0.1)\nsteps=int(100,500) "
        'model.scan=[true,false] model.remat=[none,"full"] optim.rates=[{"^albert/": 0.5}, {}]'
    )
    space = read_space(text, small(files))
    assert [(d.field, d.kind, d.ends) for d in space] == [
        ("optim.peak_lr", "log", (1e-5, 1e-4)),
        ("batch_size", "list", (16, 32)),
        ("optim.weight_decay", "uniform", (0.0, 0.1)),
        ("steps", "int", (100, 500)),
        ("model.scan", "list", (True, False)),
        ("model.remat", "list", ("none", "full")),
        ("optim.rates", "list", ('{"^albert/": 0.5}', "{}")),
    ]
    made = apply(small(files), {d.field: d.ends[-1] for d in space} | {"optim.peak_lr": 3.3e-5})
    assert (made.optim.peak_lr, made.batch_size, made.optim.weight_decay, made.steps) == (3.3e-5, 32, 0.1, 500)
    assert (made.model.scan, made.model.remat, made.optim.rates) == (False, "full", {})
    again = apply(small(files), {"optim.rates": '{"^albert/": 0.5}', "model.scan": True})
    assert again.optim.rates == {"^albert/": 0.5} and again.model.scan is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--space is empty; give fields and values"),
        ("optim.peak_lrr=log(1e-5,1e-4)", "there is no field --optim.peak-lrr; nearest: --optim.peak-lr"),
        ("optim=[1,2]", "there is no field --optim; nearest"),
        ("optim.peak_lr=log(0,1)", "0 has no logarithm; begin above 0, or write uniform(0,1)"),
        ("optim.peak_lr=log(-1,1)", "-1 has no logarithm"),
        ("optim.peak_lr=uniform(2,1)", "the range is empty; give the smaller end first"),
        ("steps=int(5,5)", "the range is empty"),
        ("optim.peak_lr=log(1e-5)", "give a number, a comma and a larger number"),
        ("optim.peak_lr=log(1e-5,inf)", "give a number, a comma and a larger number"),
        ("steps=int(1.5,3)", "give a whole number, a comma and a larger whole number"),
        ("batch_size=uniform(8,32)", "the field takes whole numbers; write batch_size=int(8,32) or a list of them"),
        ("batch_size=[8,few]", "invalid literal for int"),
        ("model.remat=[none,some]", "invalid choice 'some'"),
        ("batch_size=[]", "the list is empty or has a gap"),
        ("batch_size=[8,8]", "a value stands twice in the list"),
        ("batch_size=[8] batch_size=[16]", "names batch_size twice"),
        ("batch_size", "cannot read 'batch_size'; write FIELD=log"),
        ("batch_size=norm(1,2)", "cannot read 'batch_size=norm(1,2)'"),
        ("stopping.score=[loss,accuracy]", "the field decides what is compared"),
    ],
)
def test_a_space_that_does_not_fit_says_where(files, text, message):
    with pytest.raises(AlbertError, match=re.escape(message)) as told:
        read_space(text, small(files))
    assert "\n" not in str(told.value)


# ---- trials


def test_trials_are_workdirs_and_an_interrupted_search_goes_on(files, tmp_path, capsys, monkeypatch):
    """One trial, then a signal in the midst of the second, then the same command again: one search of two."""
    config, root = tmp_path / "config.py", tmp_path / "found"
    config.write_text(f"from pathlib import Path\nfrom tests.commands.test_search import small\n"
                      f"experiment = lambda: small(Path({str(files)!r}))\n")  # fmt: skip
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    words = ["search", "--config", str(config), "--workdir", str(root), "--space", SPACE]
    assert main([*words, "--trials", "1"]) == 0
    first = json.dumps(validations(root / "trial-000"))

    def stop():
        while not validations(root / "trial-001"):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--trials", "2"])
    assert stopped.value.code == 143
    thread.join()
    before = open_for_reading(root / "trial-001").steps[-1]
    assert 4 <= before < 12 and states(root) == ["COMPLETE", "RUNNING"]
    capsys.readouterr()
    assert main([*words, "--trials", "2"]) == 0
    told = capsys.readouterr().out
    assert f"continuing at step {before}" in told and states(root) == ["COMPLETE"] * 2
    assert json.dumps(validations(root / "trial-000")) == first

    found = search(small(files), root, SPACE, 2)  # nothing left to do: the result again
    assert sorted(trial.number for trial in found) == [0, 1]
    assert [trial.score for trial in found] == sorted((trial.score for trial in found), reverse=True)
    for trial in found:
        seen = validations(root / trial.workdir)
        assert [record["step"] for record in seen] == [4, 8, 12]
        assert trial.score == max(record["accuracy"] for record in seen)
        assert trial.state == "finished" and trial.step in (4, 8, 12)
        ran = experiments.read(root / trial.workdir)
        assert {"optim.peak_lr": ran.optim.peak_lr, "batch_size": ran.batch_size} == trial.values
        assert 1e-3 <= ran.optim.peak_lr <= 1e-2 and ran.batch_size in (8, 16)
    assert len({trial.values["optim.peak_lr"] for trial in found}) == 2
    table = (root / "search.txt").read_text().splitlines()
    assert table[0].strip() == "tiny: accuracy of 2 trials, more is better"
    assert table[1].split() == ["trial", "state", "accuracy", "at", "step", "optim.peak_lr", "batch_size"]
    assert table[3].split()[:3] == [found[0].workdir, "finished", f"{found[0].score:.4f}"]
    picture = matplotlib.image.imread(root / "search.png")
    assert picture.shape[1] > 1000 and 0.01 < (picture[..., 3] > 0).mean() < 0.5
    assert evaluate(root / found[0].workdir, "test").scores["accuracy"] >= 0  # a workdir like any other

    # Values are a function of seed, number and the scores before: of an interruption they know nothing.
    replay = optuna.create_study(direction="maximize")
    for trial in sorted(found, key=lambda trial: trial.number):
        own = int(search.__globals__["np"].random.SeedSequence((0, trial.number)).generate_state(1)[0])
        replay.sampler = optuna.samplers.TPESampler(seed=own)
        drawn = replay.ask()
        assert {d.field: d.suggest(drawn) for d in read_space(SPACE, small(files))} == trial.values
        replay.tell(drawn, trial.score)

    with pytest.raises(AlbertError, match=r"belongs to another search \(--space: batch_size=\[8,16\] .* use another"):
        search(small(files), root, "batch_size=[8,32]", 3)
    with pytest.raises(AlbertError, match=r"belongs to another search \(seed: 0 -> 1\)"):
        search(small(files, seed=1), root, SPACE, 2)
    for name, damage in (("search.json", "{"), ("search.json", "[]"), ("search.db", "no database" * 500)):
        whole = (root / name).read_bytes()
        (root / name).write_text(damage)
        with pytest.raises(AlbertError, match=rf"{name} is damaged \(.*\); restore it from a copy"):
            search(small(files), root, SPACE, 2)
        (root / name).write_bytes(whole)
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(root / "search.lock")], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        with pytest.raises(AlbertError, match="another search is running in"):
            search(small(files), root, SPACE, 2)
        other.stdin.write(b"\n")


def test_a_trial_worse_than_the_median_is_pruned_where_it_is(files, tmp_path):
    """Five finished trials at 1.5, which no accuracy reaches, stand in the storage; the sixth is a real run."""
    base, space = small(files), "optim.peak_lr=log(1e-3, 1e-2)"
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path / 'search.db'}", study_name="search", direction="maximize"
    )
    for _ in range(5):
        trial = optuna.trial.create_trial(
            value=1.5,
            params={"optim.peak_lr": 2e-3},
            user_attrs={"score": (1.5, 12)},
            distributions={"optim.peak_lr": optuna.distributions.FloatDistribution(1e-3, 1e-2, log=True)},
            intermediate_values={0: 0.0, 1: 1.5, 2: 1.5},
        )
        study.add_trial(trial)
    found = search(base, tmp_path, space, 6)
    last = found[-1]
    assert (last.number, last.state) == (5, "pruned")
    assert [record["step"] for record in validations(tmp_path / "trial-005")] == [4, 8]  # by its second evaluation
    assert last.score == max(record["accuracy"] for record in validations(tmp_path / "trial-005"))
    again = search(base, tmp_path, space, 6)
    assert again == found


def test_a_function_of_the_config_is_a_space_too(files, tmp_path, capsys, monkeypatch):
    """It draws a field in some trials only, and computes another; an interrupted search goes on, a changed one not."""
    config, root = tmp_path / "config.py", tmp_path / "found"
    text = (
        "from pathlib import Path\nfrom tests.commands.test_search import small\n"
        f"experiment = lambda: small(Path({str(files)!r}), steps=4)\n"
        "def search_space(trial):\n"
        "    batch = trial.suggest_categorical('batch_size', [8, 16])\n"
        "    values = {'batch_size': batch, 'micro_batches': batch // 8, 'optim.rates': {'^albert/': 0.5}}\n"
        "    if batch == 16:\n"
        "        values['optim.peak_lr'] = trial.suggest_float('optim.peak_lr', 1e-3, 1e-2, log=True)\n"
        "    return values\n"
    )
    config.write_text(text)
    words = ["search", "--config", str(config), "--workdir", str(root), "--seed", "2"]
    assert main([*words, "--trials", "1"]) == 0
    assert main([*words, "--trials", "3"]) == 0
    assert states(root) == ["COMPLETE"] * 3
    ran = [experiments.read(path) for path in sorted(root.glob("trial-*"))]
    assert {run.batch_size for run in ran} == {8, 16}, "the seed draws both"
    for run in ran:
        assert run.micro_batches == run.batch_size // 8 and run.optim.rates == {"^albert/": 0.5}
        assert (run.optim.peak_lr != small(files).optim.peak_lr) == (run.batch_size == 16)
    table = (root / "search.txt").read_text()
    assert {"batch_size", "optim.peak_lr"} <= set(table.splitlines()[1].split()) and "search.png" in os.listdir(root)
    capsys.readouterr()
    config.write_text(text.replace("[8, 16]", "[8, 32]"))
    assert main([*words, "--trials", "3"]) == 2
    assert "belongs to another search (--space: batch_size=Categorical" in capsys.readouterr().err
    # --space takes the place of the function, which is another search.
    assert main([*words, "--space", "batch_size=[8,16]"]) == 2
    assert "-> batch_size=[8,16])" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda trial: 1 / 0, "search_space(trial) of the config failed: division by zero"),
        (lambda trial: None, "search_space(trial) of the config failed: 'NoneType' object is not iterable"),
        (lambda trial: {"optim.peak_lrr": 1e-3}, "there is no field --optim.peak-lrr; nearest: --optim.peak-lr"),
        (lambda trial: {"batch_size": trial.suggest_float("b", 1, 2)}, "--batch-size: invalid literal for int"),
        (lambda trial: {"stopping.score": "loss"}, "stopping.score: the field decides what is compared"),
    ],
)
def test_a_function_that_does_not_fit_is_said_before_anything_is_written(files, tmp_path, function, message):
    with pytest.raises(AlbertError, match=re.escape(message)):
        search(small(files), tmp_path / "found", function, 3)
    assert not (tmp_path / "found").exists()


def test_pretraining_is_searched_by_its_loss_and_a_run_that_diverges_is_a_failed_trial(corpus, tmp_path):
    base = tiny.experiment(corpus, steps=4, eval_every=2, max_skipped=2)
    base = dataclasses.replace(base, optim=AdamW(peak_lr=1e-3, schedule=Schedule(), clip_norm=0.0))
    found = search(base, tmp_path, "optim.peak_lr=[1e38,1e-3]", 2)
    by_rate = {trial.values["optim.peak_lr"]: trial for trial in found}
    assert len(by_rate) == 2, "the seed draws both"
    losses = [record["loss"] for record in validations(tmp_path / by_rate[1e-3].workdir)]
    assert by_rate[1e-3].state == "finished" and by_rate[1e-3].score == min(losses)
    assert by_rate[1e38].state == "failed" and found[-1] is by_rate[1e38]


def test_what_cannot_start_is_said_at_once(files, tmp_path, monkeypatch):
    two = small(files, mesh=MeshConfig(devices=2))
    with pytest.raises(AlbertError, match="batch_size 15 does not divide over 2 parts"):
        search(two, tmp_path / "a", "batch_size=[15]", 3)
    with pytest.raises(AlbertError, match="fine-tuning would start from random parameters"):
        search(small(files, from_scratch=False), tmp_path / "b", SPACE, 3)
    with pytest.raises(AlbertError, match="steps is 12 and epochs 1; give one of them"):
        search(small(files), tmp_path / "c", "epochs=uniform(1,2)", 3)
    with pytest.raises(AlbertError, match="trials is 0"):
        search(small(files), tmp_path / "c", SPACE, 0)
    assert not (tmp_path / "c").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(AlbertError, match="cannot write to .*/file/d: Not a directory; choose another --workdir"):
        search(small(files), tmp_path / "file" / "d", SPACE, 3)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(AlbertError, match=r"search needs Optuna; install it with: pip install -e '\.\[search\]'"):
        search(small(files), tmp_path / "c", SPACE, 3)


def test_the_verb_needs_a_space(files, tmp_path, capsys):
    assert main(["search", "--config", "configs/demo_tag.py", "--workdir", str(tmp_path)]) == 2
    assert 'search needs --space "FIELD=log(LOW,HIGH) ..."' in capsys.readouterr().err
