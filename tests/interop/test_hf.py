"""Hugging Face directories: torch's numbers, round trips, and every file that is not what it should be.

The goldens are tiny directories as torch and transformers wrote them; `tests/goldens/make_hf.py` makes them.
"""

import json
import pickle
import shutil
import struct
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest

from albert_jax.errors import AlbertError
from albert_jax.interop import hf, safetensors
from albert_jax.interop.load import open_source
from albert_jax.interop.names import to_ours
from albert_jax.interop.safetensors import SafetensorsFile
from albert_jax.trees import flatten as flat
from tests.interop.hf_goldens import CASES, GOLDENS, OUTPUTS, computed, golden, opened

TOLERANCE = 2e-5  # float32; never to be raised: what exceeds it is a difference of rules


@pytest.fixture(scope="module", params=CASES)
def case(request):
    source, stored = opened(request.param), golden(request.param)
    return source, stored, computed(source, stored)


def largest(a, b):
    assert a.shape == b.shape
    return float(np.abs(np.asarray(a) - b).max())


def test_activations_and_loss_are_torchs(case):
    source, stored, (out, loss, _) = case
    assert largest(out.all_hidden, stored["hidden"]) <= TOLERANCE
    assert largest(out.hidden, stored["hidden"][-1]) <= TOLERANCE
    assert ("pooled" in stored) == (out.pooled is not None)
    if "pooled" in stored:
        assert largest(out.pooled, stored["pooled"]) <= TOLERANCE
    compared = 0
    for ours, theirs in OUTPUTS.items():
        values = getattr(out, ours)
        if values is None:
            continue
        theirs = "logits" if source.head == "mlm" else theirs
        assert largest(jax.nn.log_softmax(values), np.asarray(jax.nn.log_softmax(stored[theirs]))) <= TOLERANCE
        compared += 1
    assert compared == {None: 0, "pretrain": 2, "span": 2}.get(source.head, 1)
    assert abs(float(loss) - stored["loss"]) <= TOLERANCE


def test_gradients_are_torchs(case):
    source, stored, (_, _, slopes) = case
    theirs = {name.removeprefix("gradient/"): x for name, x in stored.items() if name.startswith("gradient/")}
    equal = source.config.embedding_size == source.config.hidden_size
    for name in [name for name in theirs if equal and "embedding_hidden_mapping_in" in name]:
        theirs.pop(name)  # torch's has a projection that learns; there is none in ALBERT
    want, have = to_ours("hf", theirs, source.config), flat(slopes)
    assert set(want) == set(have)
    if source.head == "span":  # a loss over all positions, padding too, and torch never trains the row of the pad piece
        assert not want["albert/embeddings/word"][0].any()
        have["albert/embeddings/word"] = have["albert/embeddings/word"].at[0].set(0)
    for path, slope in want.items():
        assert np.abs(slope).max() > 0 or path.endswith("key/bias"), path
        assert largest(have[path], slope) <= TOLERANCE, path


def test_what_the_directories_tell():
    heads = {case: opened(case).head for case in CASES}
    assert heads == {
        "one_group": "pretrain", "groups": "pretrain", "equal_widths": "mlm", "deep": None, "span": "span",
        "classification": "classification", "tagging": "tagging", "choice": "choice",
    }  # fmt: skip
    assert opened("classification").labels == ("world", "sport", "trade")
    groups = opened("groups").config
    assert (groups.layers, groups.groups, groups.inner_groups, groups.activation) == (4, 2, 2, "gelu_erf")
    assert opened("one_group").config.activation == "gelu_tanh"
    assert opened("one_group").tokenizer is None


@pytest.mark.parametrize("name", CASES)
def test_round_trip_is_bitwise(name, tmp_path):
    source = opened(name)
    hf.write(tmp_path, source)
    before, after = hf.tensors(GOLDENS / name), SafetensorsFile(tmp_path / "model.safetensors")
    assert set(after) == set(before) - {"predictions.decoder.weight", "predictions.decoder.bias"}
    for tensor in after:
        assert before[tensor].tobytes() == after[tensor].tobytes(), tensor
        assert before[tensor].shape == after[tensor].shape
    whole = GOLDENS / name / "model.safetensors"
    if whole.exists():
        assert whole.read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    stored, written = (json.loads((path / "config.json").read_text()) for path in (GOLDENS / name, tmp_path))
    for field in {*stored} - {"transformers_version", "dtype", "label2id"}:
        assert written[field] == stored[field], field
    again = open_source(tmp_path)
    assert (again.config, again.head, again.problem) == (source.config, source.head, source.problem)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_are_read_into_float32(dtype, tmp_path):
    shutil.copy(GOLDENS / "deep" / "config.json", tmp_path)
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    tensors = {name: np.asarray(tensor, kind) for name, tensor in hf.tensors(GOLDENS / "deep").items()}
    safetensors.write(tmp_path / "model.safetensors", tensors)
    found = open_source(tmp_path).params
    for path, array in to_ours("hf", tensors, opened("deep").config).items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], array)
    want = tensors["pooler.weight"].T.astype(np.float32)
    np.testing.assert_array_equal(found["albert/pooler/kernel"], want)


def test_safetensors_of_the_library_and_ours(tmp_path):
    tensors = {"b": np.arange(6, dtype=np.int64).reshape(2, 3), "a": np.float32(3) + np.zeros((), np.float32)}
    safetensors.write(tmp_path / "x.safetensors", tensors)
    found = SafetensorsFile(tmp_path / "x.safetensors")
    assert list(found) == ["a", "b"]
    assert found["a"].shape == () and found["a"] == 3
    np.testing.assert_array_equal(found["b"], tensors["b"])


# ---- what is refused, each in one line


def broken(tmp_path, case, change):
    """A copy of a golden directory after `change(copy)`, and what reading it says."""
    copy = tmp_path / case
    shutil.copytree(GOLDENS / case, copy)
    change(copy)
    with pytest.raises(AlbertError) as told:
        open_source(copy)
    assert "\n" not in str(told.value)
    assert str(copy) in str(told.value)
    return str(told.value).replace(str(copy), "DIR")


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, (self.place,)


@pytest.mark.parametrize("layout", ["zip", "plain", "bare"])
def test_a_pickle_with_code_is_refused_and_not_run(layout, tmp_path):
    bomb = Evil()
    bomb.place = str(tmp_path / "ran")
    data = pickle.dumps({"albert.pooler.weight": bomb})

    def change(copy):
        file = copy / "pytorch_model.bin"
        if layout == "zip":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("archive/data.pkl", data)
        elif layout == "plain":
            opening = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
            file.write_bytes(b"".join(map(pickle.dumps, opening)) + data)
        else:
            file.write_bytes(data)

    said = broken(tmp_path, "groups", change)
    assert "DIR/pytorch_model.bin: the pickle asks for posix.mkdir, which is no tensor" in said
    assert not (tmp_path / "ran").exists()


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
ROW = b"(" + STORAGE + b"K\x00K\x02\x85K\x01\x85\x89}tR"  # offset 0, shape (2,), strides (1,)


@pytest.mark.parametrize(
    "hostile",
    [
        TENSOR + b"}X\x07\x00\x00\x00meaningK\x01sb",  # another function behind a known name
        TENSOR + b"N}X\x07\x00\x00\x00meaningK\x01s\x86b",  # the same by the state of slots
        TENSOR + ROW + b"}X\x05\x00\x00\x00shapeK\x63\x85sb",  # a tensor made longer than its storage after the check
        TENSOR + ROW.replace(b"K\x02\x85", b"K\x63\x85"),  # one that is longer from the start
        TENSOR + ROW.replace(b"K\x01\x85", b"J\xff\xff\xff\xff\x85"),  # one that runs backwards
    ],
    ids=["function", "slots", "shape", "long", "backwards"],
)
def test_a_pickle_cannot_reach_past_its_storage(hostile, tmp_path):
    def write(pickled):
        def change(copy):
            with zipfile.ZipFile(copy / "pytorch_model.bin", "w") as archive:
                archive.writestr("archive/data.pkl", b"\x80\x02}X\x01\x00\x00\x00x" + pickled + b"s.")
                archive.writestr("archive/data/0", np.float32([1, 2]).tobytes())

        return change

    assert "no place in this model for x" in broken(tmp_path / "good", "groups", write(TENSOR + ROW))
    assert "not a file of torch.save, or a damaged one" in broken(tmp_path / "bad", "groups", write(hostile))


def cut(name, bytes_left):
    def change(copy):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:bytes_left])

    return change


def flip(name, place):
    def change(copy):
        data = bytearray((copy / name).read_bytes())
        data[place] ^= 4
        (copy / name).write_bytes(data)

    return change


def edit(name, **fields):
    def change(copy):
        stored = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps(stored | fields))

    return change


def header(change_header):
    def change(copy):
        file = copy / "model.safetensors"
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        told = json.loads(data[8 : 8 + length])
        change_header(told)
        text = json.dumps(told).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return change


def without_shard(copy):
    (copy / "model-00002-of-00003.safetensors").unlink()


def swapped_shards(copy):
    shutil.copy(copy / "model-00001-of-00003.safetensors", copy / "model-00002-of-00003.safetensors")


def outside(copy):
    edit("model.safetensors.index.json", weight_map={"x": "../model.safetensors"})(copy)


def retyped(told):
    told["albert.pooler.bias"]["dtype"] = "F8"


def overlapping(told):
    told["albert.pooler.bias"]["data_offsets"] = [n - 4 for n in told["albert.pooler.bias"]["data_offsets"]]


@pytest.mark.parametrize(
    ("case", "change", "said"),
    [
        ("one_group", cut("model.safetensors", -1000), "DIR/model.safetensors: has"),
        ("one_group", cut("model.safetensors", 100), "DIR/model.safetensors: not a safetensors file, or one cut short"),
        ("one_group", cut("model.safetensors", 0), "DIR/model.safetensors: not a safetensors file"),
        ("one_group", flip("model.safetensors", 9), "DIR/model.safetensors: not a safetensors file"),
        ("one_group", header(retyped), "DIR/model.safetensors: not a safetensors file"),
        ("one_group", header(overlapping), "DIR/model.safetensors: the place of albert.pooler.bias"),
        ("groups", cut("pytorch_model.bin", -500), "DIR/pytorch_model.bin: not a file of torch.save, or a damaged one"),
        ("groups", flip("pytorch_model.bin", 30_000), "DIR/pytorch_model.bin: not a file of torch.save"),
        ("deep", cut("pytorch_model.bin", -500), "DIR/pytorch_model.bin: not a file of torch.save, or a damaged one"),
        ("equal_widths", without_shard, "its shard model-00002-of-00003.safetensors is missing"),
        ("equal_widths", swapped_shards, "which the index"),
        ("equal_widths", outside, "DIR/model.safetensors.index.json: no weight_map"),
        ("one_group", lambda copy: (copy / "config.json").write_text("{"), "DIR/config.json: not JSON"),
        ("one_group", lambda copy: (copy / "model.safetensors").unlink(), "DIR: no model.safetensors and no"),
        ("one_group", edit("config.json", model_type="bert"), "DIR/config.json: model_type is 'bert'"),
        (
            "one_group",
            edit("config.json", architectures=["BertModel"]),
            "DIR/config.json: architectures is 'BertModel'",
        ),
        ("one_group", edit("config.json", embedding_size=9), "word_embeddings.weight has shape (40, 8)"),
        ("one_group", edit("config.json", vocab_size=41), "albert/embeddings/word needs (41, 8)"),
        ("groups", edit("config.json", inner_group_num=1), "no place in this model for"),
        ("groups", edit("config.json", inner_group_num=3), "nothing fills albert/encoder/group_0/block_2/attention"),
        ("classification", edit("config.json", id2label={"0": "a", "1": "b"}), "id2label names 2 classes"),
    ],
)
def test_what_is_not_a_model_is_told_in_one_line(case, change, said, tmp_path):
    assert said in broken(tmp_path, case, change)


def test_a_vocabulary_of_another_size(tmp_path, corpus):
    def change(copy):
        shutil.copy(corpus / "vocab" / "vocab.model", copy / "spiece.model")

    assert "its vocabulary has 300 pieces, its word table 40 rows" in broken(tmp_path, "one_group", change)


def test_other_weights_are_named(tmp_path):
    shutil.copy(GOLDENS / "deep" / "config.json", tmp_path)
    (tmp_path / "tf_model.h5").write_bytes(b"x")
    with pytest.raises(AlbertError, match=r"no model.safetensors and no .*; tf_model.h5 cannot be read"):
        open_source(tmp_path)
