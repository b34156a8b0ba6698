"""The models in the box: found by name, checked by digest, and used by whatever takes a model."""

import dataclasses
import json
import shutil
import textwrap
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

import albert_jax
from albert_jax import experiment as experiments
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.errors import AlbertError
from albert_jax.files import write_json
from albert_jax.interop import box, hf
from albert_jax.interop.convert import convert, grow
from albert_jax.interop.load import load, open_source, source_at
from albert_jax.interop.start import inherit
from albert_jax.optim import AdamW
from albert_jax.tasks import Classification
from albert_jax.train import train
from tests import tiny
from tests.interop.hf_goldens import opened

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(corpus):
    """A model with a vocabulary whose numbers float16 does not all hold."""
    source, tokenizer = opened("one_group"), Tokenizer.load(corpus / "vocab")
    params, config = grow(source.params, source.config, vocab_size=tokenizer.vocab_size)
    return dataclasses.replace(source, params=params, config=config, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    """A box with that model as "small", beside a card."""
    made = tmp_path_factory.mktemp("made")
    (made / "small").mkdir()
    (made / "small" / "README.md").write_text("made from nothing\n")
    box.add(model, "small", made)
    return made


@pytest.fixture
def boxed(made, tmp_path, monkeypatch):
    """The directory of "small" in a copy of that box, in the place of the package's."""
    monkeypatch.setattr(box, "BOX", tmp_path / "box")
    shutil.copytree(made, tmp_path / "box")
    return tmp_path / "box" / "small"


def test_a_model_in_the_box_is_float16_on_disk_and_float32_in_memory(boxed, model):
    assert sorted(path.name for path in boxed.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "spiece.model", "tokenizer_config.json",
    ]  # fmt: skip
    numbers = sum(array.size for array in model.params.values())
    assert 2 * numbers < (boxed / "model.safetensors").stat().st_size < 2 * numbers + 8000
    found = open_source("albert_jax/small")
    assert (found.origin, found.format, found.head) == ("albert_jax/small", "hf", "pretrain")
    assert found.tokenizer.fingerprint == model.tokenizer.fingerprint
    for path, array in model.params.items():
        assert found.params[path].dtype == np.float32
        np.testing.assert_array_equal(found.params[path], array.astype(np.float16).astype(np.float32))
    assert box.names() == ["albert_jax/small"]


def test_the_example_of_load_runs_as_it_stands(boxed):
    lines = load.__doc__.splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if line.startswith("        ") or not line).strip("\n"))
    example = example.partition("\n\n")[0]
    assert example.count("\n") == 2 and 'albert_jax.load("albert_jax/small")' in example
    names = {"albert_jax": albert_jax}
    exec(example, names)
    pieces = names["tokenizer"].encode("some text")
    assert names["out"].hidden.shape == (1, len(pieces) + 2, 16) and names["out"].pooled.shape == (1, 16)


def test_a_run_and_a_conversion_start_from_the_box(boxed, corpus, tmp_path):
    task = Classification(train=("train.tsv",), dev=("dev.tsv",))
    begun = tiny.experiment(corpus, task=task, init="albert_jax/small", model_of_init=True)
    begun = inherit(begun, tmp_path / "run")
    assert (begun.model.hidden_size, begun.model.vocab_size) == (16, 300) and begun.task.vocab == str(boxed)
    convert("albert_jax/small", tmp_path / "ours")
    assert open_source(tmp_path / "ours").tokenizer.fingerprint == open_source("albert_jax/small").tokenizer.fingerprint


def test_a_directory_of_that_name_comes_before_the_box(boxed, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "albert_jax" / "small").mkdir(parents=True)
    hf.write(tmp_path / "albert_jax" / "small", dataclasses.replace(model, head="mlm"))
    with source_at("albert_jax/small") as source:
        assert source.load().head == "mlm"


def without(boxed):
    (boxed / "spiece.model").unlink()


def flipped(boxed):
    content = bytearray((boxed / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (boxed / "model.safetensors").write_bytes(content)


def bare(boxed):
    (boxed.parent / "digests.json").write_text('{"small": []}')


def emptied(boxed):
    shutil.rmtree(boxed.parent)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("small", without, r"albert_jax/small: \S+/box/small/spiece\.model is missing; install the package again"),
        ("small", flipped, r"\S+/model\.safetensors has the digest [0-9a-f]{12}, on record is [0-9a-f]{12}; install"),
        ("small", bare, r"\S+/digests\.json has no digests of its files"),
        (
            "smal",
            None,
            "albert_jax/smal: no such path, and no model of this name; in the box there are albert_jax/small",
        ),
        ("small", emptied, "albert_jax/small: no such path, .*; this installation has no model in its box"),
    ],
)
def test_what_is_wrong_with_the_box_is_one_line(name, change, said, boxed):
    if change:
        change(boxed)
    with pytest.raises(AlbertError, match=said) as caught:
        albert_jax.load(f"albert_jax/{name}")
    assert "\n" not in str(caught.value)


def test_names_of_the_hub_are_not_taken_for_the_box(boxed):
    assert not any(
        map(box.is_name, ("albert/albert-base-v2", "small", "albert_jax/a/b", "albert_jax/", "albert_jax/a b"))
    )


def test_a_number_too_large_for_float16_is_refused(model, tmp_path):
    params = model.params | {"mlm/bias": np.full(300, 7e4, np.float32)}
    with pytest.raises(AlbertError, match=r"predictions\.bias holds numbers above 65504, the most of float16"):
        box.add(dataclasses.replace(model, params=params), "large", tmp_path)


def test_a_second_model_keeps_the_first_on_record(boxed, model):
    box.add(model, "mini")
    assert box.names() == ["albert_jax/mini", "albert_jax/small"]
    known = json.loads((boxed.parent / "digests.json").read_text())
    assert known["mini"]["model.safetensors"] == known["small"]["model.safetensors"]
    assert "README.md" in known["small"] and "README.md" not in known["mini"]


def test_the_box_is_part_of_the_package(boxed):
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["albert_jax"]
    for path in [*boxed.iterdir(), boxed.parent / "digests.json"]:
        name = str(path.relative_to(boxed.parents[1]))
        assert any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns), name


def test_fine_tuning_starts_from_the_box_where_nothing_is_named(boxed, corpus, tmp_path, capsys, monkeypatch):
    for split in ("train", "dev"):
        lines = [f"the {word} may call\t{word}" for word in ("class", "value") * 4]
        (tmp_path / f"{split}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    task = Classification(train=(f"{tmp_path}/train.tsv",), dev=(f"{tmp_path}/dev.tsv",), max_length=12)
    base = tiny.experiment(corpus, task=task, model_of_init=True, recipe=True, optim=AdamW(peak_lr=0), steps=2)
    train(base, tmp_path / "run")
    said = capsys.readouterr().out
    assert "starting from albert_jax/small, the model in the box, since no --init is given; not found" in said
    assert "recipe for width 16, 8 examples: rate 0.001, warm-up 10%\n" in said
    stored = experiments.read(tmp_path / "run")
    assert (stored.optim.peak_lr, stored.steps, stored.batch_size) == (1e-3, 2, 8)
    assert (stored.init, stored.model.hidden_size, stored.model.vocab_size) == ("albert_jax/small", 16, 300)
    assert inherit(dataclasses.replace(base, init="elsewhere"), tmp_path / "run").init == "elsewhere"
    # A run that was begun from another model goes on from that one, whatever is in the box.
    write_json(tmp_path / "run" / experiments.FILE, experiments.to_dict(dataclasses.replace(stored, init="X")))
    assert inherit(base, tmp_path / "run").init == "X"
    # Random values that were asked for, and a shape of one's own, have nothing to do with the box.
    assert inherit(dataclasses.replace(base, from_scratch=True), tmp_path / "a").init == ""
    assert inherit(dataclasses.replace(base, model_of_init=False), tmp_path / "a").init == ""
    monkeypatch.setattr(box, "BOX", tmp_path / "no box")
    with pytest.raises(AlbertError, match="fine-tuning would start from random parameters; give --init WORKDIR"):
        inherit(base, tmp_path / "a")


def test_the_model_that_is_shipped_has_its_files_on_record_and_knows_more_than_frequencies():
    """Every fourth piece of a sentence is masked; to guess by frequencies costs 6.8 nats (its card)."""
    model, tokenizer = load("albert_jax/small", head="pretrain")
    recorded = json.loads((box.BOX / box.DIGESTS).read_text())["small"]
    assert sorted(recorded) == sorted(file.name for file in (box.BOX / "small").iterdir())
    assert (model.config.vocab_size, tokenizer.vocab_size) == (16_000, 16_000)
    pieces = tokenizer.encode("The man went to the house of the king and said to him that he was the son of the lord.")
    ids = np.array([[tokenizer.cls_id, *pieces, tokenizer.sep_id]])
    positions = np.arange(2, ids.shape[1] - 1, 4)[None]
    shown = ids.copy()
    shown[0, positions[0]] = tokenizer.mask_id
    logits = np.asarray(model(shown, positions=positions).mlm_logits[0], np.float64)
    own = logits[np.arange(positions.size), ids[0, positions[0]]]
    loss = (np.log(np.exp(logits).sum(-1)) - own).mean()
    assert loss == pytest.approx(2.584, abs=0.01)  # of this box; another one has another figure
