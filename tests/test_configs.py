"""Every config that we ship is loaded, and its model built in the abstract and counted."""

import dataclasses
from pathlib import Path

import jax
import pytest
from flax import nnx

from albert_jax import experiment as experiments
from albert_jax.commands.args import parse
from albert_jax.engine.state import count
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.model.heads import AlbertForPretraining
from albert_jax.optim import Lamb
from albert_jax.tasks import Tagging

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
# Embeddings, encoder and pooler; beside them the MLM head (H x 128 + 3 x 128 + V) and the order head (2 H + 2).
PAPER = {
    "pretrain_base": 11_683_584,
    "pretrain_large": 17_683_968,
    "pretrain_xlarge": 58_724_864,
    "pretrain_xxlarge": 222_595_584,
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_loads_round_trips_and_builds(path):
    experiment = experiments.load_config(path).check()
    assert experiments.from_dict(Experiment, experiments.to_dict(experiment)) == experiment
    text = path.read_text(encoding="utf-8")
    for line in ("Paper row:", "Command:", "Hardware:", "Vary:"):
        assert line in text, f"the docstring of {path.name} lacks {line!r}"
    vocab = experiment.model.vocab_size or 4096
    config = experiments.dataclasses.replace(experiment.model, vocab_size=vocab)

    def make():
        return nnx.to_pure_dict(
            nnx.state(AlbertForPretraining(config, rngs=nnx.Rngs(params=jax.random.key(0))), nnx.Param)
        )

    params = jax.eval_shape(make)
    if path.stem in PAPER:
        size = config.hidden_size
        assert count(params) == PAPER[path.stem] + (size * 128 + 3 * 128 + vocab) + (2 * size + 2)
    experiment.optim.build(experiment.steps, params)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipe(name):
    experiment = experiments.load_config(Path(__file__).parents[1] / "configs" / f"{name}.py")
    assert (experiment.batch_size, experiment.steps) == (4096, 125_000)
    assert isinstance(experiment.optim, Lamb)
    assert (experiment.optim.peak_lr, experiment.optim.schedule.warmup_steps) == (1.76e-3, 3125)
    assert (experiment.task.max_length, experiment.model.vocab_size) == (512, 30_000)


def test_overrides_by_path_are_typed():
    words = [
        "--optim.peak-lr",
        "3e-3",
        "--model.layers",
        "6",
        "--task.pairs.order",
        "off",
        "--mesh.shape",
        '{"data": 4}',
    ]
    changed = parse(Experiment, words, prog="test", default=experiments.example())
    assert (changed.optim.peak_lr, changed.model.layers) == (3e-3, 6)
    assert (changed.task.pairs.order, changed.mesh.shape) == ("off", {"data": 4})
    assert changed.batch_size == 4096


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optim.peek-lr", "3"], r"no field --optim.peek-lr; nearest: --optim.peak-lr"),
        (["--optim.peak_l", "3"], r"no field --optim.peak_l; nearest: --optim.peak-lr"),
        (["--steps", "many"], "--steps.*'many'"),
        (["--model.remat", "some"], r"'some'.*\('none', 'dots', 'full'\)"),
        (["--mesh.shape", "{data"], "--mesh.shape: not JSON"),
        (["--optim.rates", '{"a": "b"}'], "--optim.rates: expected"),
    ],
)
def test_bad_words_are_named_in_one_line(words, message):
    with pytest.raises(AlbertError, match=message) as told:
        parse(Experiment, words, prog="test", default=experiments.example())
    assert "\n" not in str(told.value)


def test_a_list_given_twice_is_refused_and_a_number_takes_the_later():
    default = dataclasses.replace(experiments.example(), task=Tagging())
    found = parse(Experiment, ["--task.train", "a", "b", "--steps", "3", "--steps", "4"], prog="test", default=default)
    assert (found.task.train, found.steps) == (("a", "b"), 4)
    with pytest.raises(AlbertError, match="--task.train is given twice; give all its values after one"):
        parse(Experiment, ["--task.train", "a", "--task.train=b"], prog="test", default=default)


def test_fields_that_do_not_go_together():
    def check(*words):
        parse(Experiment, words, prog="test", default=experiments.example()).check()

    with pytest.raises(AlbertError, match="batch_size 4096 does not divide into micro_batches 3"):
        check("--micro-batches", "3")
    for field in ("batch-size", "checkpoint.every", "checkpoint.keep", "telemetry.log-every", "watch.window"):
        with pytest.raises(AlbertError, match=f"{field.replace('-', '_')} is 0; it must be at least 1"):
            check(f"--{field}", "0")
    for field in ("eval-every", "checkpoint.keep-best", "telemetry.plain-seconds"):
        check(f"--{field}", "0")
        with pytest.raises(AlbertError, match=f"{field.replace('-', '_')} is -2; it must not be negative"):
            check(f"--{field}", "-2")
    with pytest.raises(AlbertError, match="sequences of 1024 pieces are longer than the position table"):
        check("--task.pairs.max-length", "1024")
    with pytest.raises(AlbertError, match="warmup_steps is 200000 but the run has 125000"):
        check("--optim.schedule.warmup-steps", "200000")


def test_a_config_file_that_is_no_config(tmp_path):
    with pytest.raises(AlbertError, match=r"no config file .*missing.py"):
        experiments.load_config(tmp_path / "missing.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(AlbertError, match=r"empty.py defines no function experiment"):
        experiments.load_config(tmp_path / "empty.py")
    (tmp_path / "broken.py").write_text("def experiment(:\n")
    with pytest.raises(AlbertError, match=r"broken.py: cannot be loaded: SyntaxError: .*broken.py, line 1\)"):
        experiments.load_config(tmp_path / "broken.py")
    unknown = "from albert_jax.experiment import Experiment\n\ndef experiment():\n    return Experiment(colour=1)\n"
    for text, said in (
        (unknown, r"line 4: cannot be loaded: TypeError: .* unexpected keyword argument 'colour'"),
        ("import math\nx = math.log(0)\n", "line 2: cannot be loaded: ValueError: math domain error"),
        ("def experiment():\n    return 1\n", r"experiment\(\) returned a int, not an Experiment"),
    ):
        (tmp_path / "wrong.py").write_text(text)
        with pytest.raises(AlbertError, match=rf"wrong\.py.*{said}"):
            experiments.load_config(tmp_path / "wrong.py")
    (tmp_path / "notes.md").write_text("# notes")
    with pytest.raises(AlbertError, match=r"notes\.md is no Python file"):
        experiments.load_config(tmp_path / "notes.md")
