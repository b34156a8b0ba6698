"""Checkpoints of TensorFlow: its files read to the bit, ours the files that it restored, and damage told by name."""

import hashlib
import json
import shutil
import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from albert_jax.data.examples.tfrecords import masked_crc32c
from albert_jax.errors import AlbertError
from albert_jax.interop import tf_bundle
from albert_jax.interop.released import config_from_google
from albert_jax.interop.tf_bundle import Bundle
from tests.goldens.google import draw, write
from tests.goldens.google.compare import GOLDENS, shapes

TRAINED = GOLDENS / "trained" / "model.ckpt-best"
SHARDED = GOLDENS / "sharded" / "model.ckpt-1"
KERNEL = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/key/kernel"


def contents(prefix, data=".data-00000-of-00001"):
    return [prefix.with_name(prefix.name + ending).read_bytes() for ending in (".index", data)]


def test_variables_moments_and_step_of_a_training_run():
    found = dict(Bundle(TRAINED))
    wanted = shapes(config_from_google(draw.config("one_group")))
    slots = {f"{name}/adam_{moment}" for name in wanted for moment in "mv"}
    assert set(found) == {*wanted, *slots, "global_step"}
    for name, shape in wanted.items():
        value = draw.weight("one_group", name, shape)
        assert found[name].dtype == np.float32
        assert found[name].shape == shape
        assert found[name].tobytes() == value.tobytes(), name
    assert found["global_step"].dtype == np.int64
    assert found["global_step"].shape == ()
    assert found["global_step"] == 1
    assert np.abs(found[f"{KERNEL}/adam_m"]).max() > 0


def test_three_shards_hold_the_same():
    whole, cut = dict(Bundle(TRAINED)), dict(Bundle(SHARDED))
    assert {entry.shard for entry in Bundle(SHARDED).entries.values()} == {0, 1, 2}
    assert list(cut) == list(whole)
    for name, value in whole.items():
        if "/adam_" not in name:  # another step's
            assert cut[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("prefix", [TRAINED, GOLDENS / "classifier" / "model.ckpt-9"], ids=lambda p: p.parent.name)
def test_written_again_it_is_tensorflows_file_byte_for_byte(prefix, tmp_path):
    tf_bundle.write(tmp_path / "new" / "model", dict(Bundle(prefix)))
    assert contents(tmp_path / "new" / "model") == contents(prefix)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.data-00000-of-00001", "model.index"]


def test_what_we_write_is_what_tensorflow_restored(tmp_path):
    """`make.py written` restored these bytes through TensorFlow's Saver into the original's graph."""
    write.write(tmp_path / "model")
    proof = json.loads((GOLDENS / "written.json").read_text())
    sums = [hashlib.sha256(data).hexdigest() for data in contents(tmp_path / "model")]
    assert proof == {"tensorflow": "1.15.5", "index": sums[0], "data-00000-of-00001": sums[1]}


def test_every_dtype_through_a_file(tmp_path):
    random = np.random.default_rng(0)
    tensors = {
        str(dtype): random.integers(0, 2, (3, 2)).astype(dtype)
        for dtype in ["f4", "f8", "i4", "u1", "i2", "i1", "i8", "?", ml_dtypes.bfloat16, "u2", "f2", "u4", "u8"]
    } | {"scalar": np.float32(2.5), "empty": np.zeros((0, 3), np.float32), "strided": np.arange(6.0).reshape(2, 3).T}
    tf_bundle.write(tmp_path / "model", tensors)
    found = dict(Bundle(tmp_path / "model"))
    assert list(found) == sorted(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(AlbertError, match="words: <U1 cannot stand in a checkpoint"):
        tf_bundle.write(tmp_path / "model", {"words": np.array(["a"])})
    assert list(dict(Bundle(tmp_path / "model"))) == sorted(tensors)  # the old one stands


def test_an_index_of_many_blocks_is_tensorflows_too(tmp_path):
    tensors = {name: np.float32(number) for number, name in enumerate(draw.many_names())}
    tf_bundle.write(tmp_path / "many", tensors)
    index, _ = contents(tmp_path / "many")
    assert len(index) > 262_144
    assert hashlib.sha256(index).hexdigest() == (GOLDENS / "many.sha256").read_text().strip()
    assert dict(Bundle(tmp_path / "many")) == tensors


def test_a_compressed_index_is_refused_in_one_line():
    """The one block of a real index, marked as Snappy's with the right checksum; no released checkpoint has any."""
    plain = TRAINED.with_name("model.ckpt-best.index").read_bytes()
    end, _ = tf_bundle.varint(plain[-48:], 0)  # the footer begins with the offset after the one block
    block = plain[: end - 5] + b"\x01"
    marked = block + struct.pack("<I", masked_crc32c(block)) + plain[end:]
    assert len(marked) == len(plain)
    with pytest.raises(AlbertError, match=r"^some.index: the block at byte 0 has compression 1; save .* again"):
        tf_bundle.read_table(marked, "some.index")


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(GOLDENS / "sharded", tmp_path / "copy")
    return tmp_path / "copy" / "model.ckpt-1"


def change(path, place, flip=0x10):
    data = bytearray(path.read_bytes())
    data[place] ^= flip
    path.write_bytes(data)


def holder(prefix, name):
    entry = Bundle(prefix).entries[name]
    return entry, prefix.with_name(f"{prefix.name}.data-0000{entry.shard}-of-00003")


@pytest.mark.parametrize("bit", [1, 128])
def test_a_flipped_bit_names_shard_and_tensor(copy, bit):
    entry, shard = holder(copy, KERNEL)
    change(shard, entry.offset + entry.size // 2, bit)
    with pytest.raises(AlbertError, match=rf"{shard.name}: {KERNEL} does not match its checksum"):
        dict(Bundle(copy))
    assert "global_step" in Bundle(copy)
    np.testing.assert_array_equal(Bundle(copy)["global_step"], 1)  # the others are still there


def test_a_truncated_shard_names_itself_and_the_tensor(copy):
    entry, shard = holder(copy, KERNEL)
    shard.write_bytes(shard.read_bytes()[: entry.offset + 10])
    with pytest.raises(AlbertError, match=rf"{shard.name}: ends within \S+ \({entry.offset + 10} bytes"):
        dict(Bundle(copy))


def test_a_missing_shard_names_itself_and_the_tensor(copy):
    shard = holder(copy, KERNEL)[1]
    shard.unlink()
    with pytest.raises(AlbertError, match=rf"{shard.name}: cannot read \S+ \(No such file"):
        dict(Bundle(copy))


def test_a_missing_index(copy):
    copy.with_name("model.ckpt-1.index").unlink()
    with pytest.raises(AlbertError, match="model.ckpt-1.index: no checkpoint index here"):
        dict(Bundle(copy))


@pytest.mark.parametrize("size", [0, 30, 100, 3000])
def test_a_truncated_index(copy, size):
    path = copy.with_name("model.ckpt-1.index")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(AlbertError, match=f"model.ckpt-1.index: .*cut short.*{size} bytes"):
        dict(Bundle(copy))


def test_a_bit_flipped_anywhere_in_the_index(copy):
    path = copy.with_name("model.ckpt-1.index")
    data, good = path.read_bytes(), list(dict(Bundle(copy)))
    for place in range(0, len(data), 37):
        change(path, place)
        try:
            assert list(dict(Bundle(copy))) == good  # padding of the footer
            assert place >= len(data) - 48
        except AlbertError as error:
            assert "model.ckpt-1.index" in str(error)
        path.write_bytes(data)


def test_a_sliced_variable_is_refused_by_name(tmp_path):
    entry = tf_bundle.Entry(1, (4,), 0, 0, 16, 0)
    table = {b"": tf_bundle._HEADER % 1, b"part": tf_bundle._message(entry) + b"\x3a\x00"}
    (tmp_path / "model.index").write_bytes(tf_bundle.write_table(table))
    with pytest.raises(AlbertError, match="model.index: part is stored in slices"):
        dict(Bundle(tmp_path / "model"))


def test_reading_holds_little_more_than_the_file(tmp_path):
    tensors = {f"kernel_{number}": np.full((1_500_000,), number, np.float32) for number in range(5)}
    tf_bundle.write(tmp_path / "model", tensors)
    dict(Bundle(GOLDENS / "classifier" / "model.ckpt-9"))  # the checksum's tables are there from now on
    tracemalloc.start()
    found = dict(Bundle(tmp_path / "model"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["kernel_4"][-1] == 4
    assert peak < 1.3 * sum(tensor.nbytes for tensor in tensors.values())
