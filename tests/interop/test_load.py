"""`albert_jax.load`: what it takes, what it gives, what it refuses."""

import dataclasses
import subprocess
import sys
import tarfile

import jax
import numpy as np
import pytest
from flax import nnx

import albert_jax
from albert_jax.data.text import tokenizers
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.errors import AlbertError
from albert_jax.interop import directory, google, hf
from albert_jax.interop.convert import grow
from albert_jax.interop.load import READERS, open_source, source_at
from tests.interop.hf_goldens import GOLDENS, golden, opened


@pytest.fixture(scope="module")
def stored():
    return golden("one_group")


@pytest.fixture(scope="module")
def loaded():
    model, tokenizer = albert_jax.load(GOLDENS / "one_group", head="pretrain")
    assert tokenizer is None
    return model


def run(model, stored, **options):
    return model(stored["input_ids"], stored["segment_ids"], stored["mask"], **options)


def test_pretraining_logits_at_the_positions_asked_for(loaded, stored):
    positions = np.array([[0, 3], [5, 1], [2, 2]])
    out = run(loaded, stored, positions=positions, all_hidden=True)
    want = np.take_along_axis(stored["prediction_logits"], positions[..., None], 1)
    np.testing.assert_allclose(out.mlm_logits, want, atol=2e-5)
    np.testing.assert_allclose(out.order_logits, stored["sop_logits"], atol=2e-5)
    np.testing.assert_allclose(out.all_hidden, stored["hidden"], atol=2e-5)
    assert isinstance(loaded, nnx.Module)
    assert loaded.params["order"]["kernel"].shape == (16, 2)


def test_segments_and_mask_may_be_left_out(loaded, stored):
    ids = stored["input_ids"]
    out = loaded(ids.tolist())
    plain = loaded(ids, np.zeros_like(ids), np.ones(ids.shape, bool))
    np.testing.assert_array_equal(out.hidden, plain.hidden)
    assert out.all_hidden is None and out.mlm_logits is None and out.logits is None
    assert np.abs(out.hidden - stored["hidden"][-1]).max() > 1e-2  # they do matter


def test_any_depth_of_the_one_block(stored):
    deep, _ = albert_jax.load(GOLDENS / "deep")
    six, _ = albert_jax.load(GOLDENS / "deep", layers=6)
    batch = golden("deep")
    whole, part = run(deep, batch, all_hidden=True), run(six, batch, all_hidden=True)
    assert part.all_hidden.shape[0] == 6
    np.testing.assert_allclose(part.hidden, whole.all_hidden[5], atol=1e-6)
    np.testing.assert_allclose(part.hidden, batch["hidden"][5], atol=2e-5)
    assert six.config.layers == 6


def test_every_format_gives_the_same(loaded, stored, corpus, tmp_path):
    """Ours and Google's too, with a vocabulary, which comes along."""
    source, tokenizer = opened("one_group"), Tokenizer.load(corpus / "vocab")
    params, config = grow(source.params, source.config, vocab_size=tokenizer.vocab_size)
    source = dataclasses.replace(source, params=params, config=config, tokenizer=tokenizer)
    want = run(loaded, stored)
    for write in (directory.write, google.write, hf.write):
        place = tmp_path / write.__module__
        place.mkdir()
        write(place, source)
        model, found = albert_jax.load(place, head="pretrain")
        out = run(model, stored)
        np.testing.assert_array_equal(out.hidden, want.hidden)
        np.testing.assert_array_equal(out.order_logits, want.order_logits)
        assert found.encode("In 1,234 words.") == tokenizer.encode("In 1,234 words.")
        assert found.vocab_size == model.config.vocab_size == 300


def test_a_source_without_a_pooler_has_no_pooled_output():
    model, _ = albert_jax.load(GOLDENS / "tagging")
    assert run(model, golden("tagging")).pooled is None
    assert run(model, golden("tagging")).logits is None


def test_differentiable(loaded, stored):
    graph, state = nnx.split(loaded, nnx.Param)

    def loss(state):
        return (run(nnx.merge(graph, state), stored).pooled ** 2).sum()

    slopes = nnx.to_pure_dict(jax.jit(jax.grad(loss))(state))
    assert np.abs(slopes["albert"]["embeddings"]["word"]).max() > 0


@pytest.mark.parametrize(
    ("case", "head", "message"),
    [
        ("deep", "pretrain", "the head 'pretrain' needs mlm, order, which the source does not have"),
        ("equal_widths", "pretrain", "needs albert/pooler, order, which"),
        ("classification", "choice", "this classifier has 3 classes"),
        ("tagging", "classification", "needs albert/pooler, which"),
        ("one_group", "translate", "there is no head 'translate'; choose pretrain, mlm"),
    ],
)
def test_a_head_that_is_not_there(case, head, message):
    with pytest.raises(AlbertError, match=message):
        albert_jax.load(GOLDENS / case, head=head)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (dict(input_ids=[[5, 40]]), "input_ids hold 40, outside 0..39"),
        (dict(input_ids=[[5, -1]]), "input_ids hold -1"),
        (dict(input_ids=[[5.0]]), "input_ids are float64"),
        (dict(input_ids=[[5, 6]], segment_ids=[[0, 2]]), "segment_ids hold 2, outside 0..1"),
        (dict(input_ids=[[5, 6]], segment_ids=[[0]]), r"segment_ids \(1, 1\)"),
        (dict(input_ids=[5, 6]), r"one shape \[B, S\]"),
        (dict(input_ids=[[5, 6]], positions=[[2]]), "positions hold 2, outside 0..1"),
        (dict(input_ids=[[5, 6]], positions=[0]), r"positions \(1,\) must be \[B, P\]"),
        (dict(input_ids=[[5, 6], [5]]), "input_ids have rows of different lengths; pad them"),
        (dict(input_ids=[[]]), r"input_ids \(1, 0\) hold nothing"),
        (dict(input_ids=[[5, 6]], mask=[[1, 0.5]]), "mask is float64 with other values than true and false"),
        (dict(input_ids=[[5, 6]], mask=[[1, 2]]), "mask is int64 with other values"),
        (dict(input_ids=[[5, 6]], mask=[[1]]), r"mask \(1, 1\)"),
        (dict(input_ids=np.full((1, 13), 7)), "13 pieces is longer than the position table of 12"),
    ],
)
def test_inputs_that_would_be_clamped(loaded, inputs, message):
    with pytest.raises(AlbertError, match=message):
        loaded(**inputs)


@pytest.mark.parametrize("mask", [[[1, 1, 0]], [[True, True, False]], np.float32([[1, 1, 0]]), np.int64([[1, 1, 0]])])
def test_a_mask_of_any_kind(loaded, mask):
    wanted = loaded([[5, 6, 7]], mask=np.array([[True, True, False]]))
    assert np.abs(np.asarray(wanted.hidden) - np.asarray(loaded([[5, 6, 7]]).hidden)).max() > 1e-2
    assert np.array_equal(loaded([[5, 6, 7]], mask=mask).hidden, wanted.hidden)


def test_positions_without_an_mlm_head():
    model, _ = albert_jax.load(GOLDENS / "deep")
    with pytest.raises(AlbertError, match="positions are for MLM logits"):
        model([[5, 6]], positions=[[0]])


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    with pytest.raises(AlbertError, match=r"albert/none: there is no such path.*pip install -e .\.\[hf\]"):
        albert_jax.load("albert/none")
    with pytest.raises(AlbertError, match="none: there is no such path; give a directory"):
        albert_jax.load(tmp_path / "none")
    with pytest.raises(AlbertError, match=str(tmp_path)):
        albert_jax.load(tmp_path)
    with pytest.raises(AlbertError, match=r"model\.safetensors: no archive .*; give the directory it is in"):
        albert_jax.load(GOLDENS / "one_group" / "model.safetensors")


def test_loading_needs_no_optional_package():
    heavy = ["torch", "transformers", "tensorflow", "safetensors", "huggingface_hub", "sklearn", "albert_jax.tasks"]
    code = (
        f"import sys, albert_jax; model, _ = albert_jax.load({str(GOLDENS / 'groups')!r}, head='pretrain');"
        f" print([name for name in {heavy} if name in sys.modules], model([[5]], positions=[[0]]).mlm_logits.shape)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "[] (1, 1, 40)", out.stderr[-500:]


@pytest.fixture
def archive(tmp_path, corpus):
    """Google's, with a vocabulary."""
    source, tokenizer = opened("one_group"), Tokenizer.load(corpus / "vocab")
    params, config = grow(source.params, source.config, vocab_size=tokenizer.vocab_size)
    (tmp_path / "mine").mkdir()
    google.write(tmp_path / "mine", dataclasses.replace(source, params=params, config=config, tokenizer=tokenizer))
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "mine", "mine")
    return tmp_path / "mine.tar.gz"


def test_a_source_is_opened_once_within_a_block(archive, monkeypatch):
    unpacked, unpack = [], google._unpack
    monkeypatch.setattr(google, "_unpack", lambda path, folder: (unpacked.append(folder), unpack(path, folder)))
    with source_at(archive) as source:
        with source_at(str(archive)) as again:
            assert again is source
        with source_at(archive) as peeked:
            config, vocab = peeked.config, peeked.vocab
        model = open_source(archive)
        assert model.config is config is source.config
        assert model.tokenizer is source.tokenizer
        assert tokenizers.load(vocab).fingerprint == source.tokenizer.fingerprint
        assert len(unpacked) == 1 and unpacked[0].exists()
    assert not unpacked[0].exists()
    assert tokenizers.load(vocab).fingerprint == source.tokenizer.fingerprint  # it outlasts the block
    assert open_source(archive).config == config
    assert len(unpacked) == 2 and not unpacked[1].exists()


def test_a_source_is_closed_by_an_error_too(archive, monkeypatch):
    unpacked, unpack = [], google._unpack
    monkeypatch.setattr(google, "_unpack", lambda path, folder: (unpacked.append(folder), unpack(path, folder)))
    with pytest.raises(ZeroDivisionError), source_at(archive):
        raise ZeroDivisionError
    monkeypatch.setattr(google, "config_from_google", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError), source_at(archive):
        raise AssertionError
    assert len(unpacked) == 2 and not any(folder.exists() for folder in unpacked)
    monkeypatch.undo()
    with source_at(archive) as source:  # none of them is still held to be open
        assert source.load().head == "pretrain"


def test_each_format_has_its_reader(tmp_path, archive):
    """And the first that matches is the right one."""
    directory_of_ours = tmp_path / "ours"
    directory_of_ours.mkdir()
    directory.write(directory_of_ours, opened("span"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.json").write_text("{}")
    places = [directory_of_ours, tmp_path / "run", GOLDENS / "span", archive, archive.parent / "mine"]
    places.append(archive.parent / "mine" / "model.ckpt-best")
    first = [next(reader for reader in READERS if reader.matches(place)).__name__ for place in places]
    assert first == ["Directory", "Workdir", "HuggingFace", "Google", "Google", "Google"]
    assert not any(reader.matches(tmp_path / "none") for reader in READERS)
