"""TFRecord files, the Examples in them, and the original's records as training examples, all without TensorFlow."""

import json
import pickle
import struct
import zlib
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from albert_jax.data.examples.loader import Loader
from albert_jax.data.examples.pretraining import GoogleRecords
from albert_jax.data.examples.tfrecords import TFRecords, masked_crc32c, matching_files, parse_example
from albert_jax.errors import AlbertError

HERE = Path(__file__).parents[2] / "goldens" / "google_data"
RECORDS = HERE / "examples.tfrecord"
READ_BY_TENSORFLOW = json.loads((HERE / "examples.json").read_text())
VOCAB_SIZE = 700


def framed(*payloads: bytes) -> bytes:
    """A TFRecord file of these records."""
    parts = []
    for payload in payloads:
        length = struct.pack("<Q", len(payload))
        parts += [length, struct.pack("<I", masked_crc32c(length)), payload, struct.pack("<I", masked_crc32c(payload))]
    return b"".join(parts)


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    head = b""
    while number > 0x7F:
        head += bytes([number & 0x7F | 0x80])
        number >>= 7
    return head + bytes([number])


def example(**features: bytes) -> bytes:
    """A serialised Example of features that are serialised Feature messages."""
    return field(1, b"".join(field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()))


def integers(*values: int) -> bytes:
    return field(3, field(1, b"".join(map(varint, values))))


def original(size: int = 8, slots: int = 2, **changes: bytes) -> bytes:
    """A record as the original's tool writes them."""
    fields = {
        "input_ids": integers(2, *range(5, size + 3), 3), "input_mask": integers(*[1] * size),
        "segment_ids": integers(*[0] * size), "masked_lm_positions": integers(*range(1, slots + 1)),
        "masked_lm_ids": integers(*[300] * slots), "masked_lm_weights": field(2, field(1, struct.pack("<2f", 1, 0))),
        "next_sentence_labels": integers(1),
    }  # fmt: skip
    return example(**{**fields, **changes})


@pytest.mark.parametrize(
    ("data", "checksum"),
    [  # RFC 3720, B.4, and the check value of the polynomial
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc32c_vectors(data: bytes, checksum: int) -> None:
    assert google_crc32c.value(data) == checksum
    assert google_crc32c.value(np.frombuffer(data, np.uint8)) == checksum
    rotated = int(f"{checksum:032b}"[-15:] + f"{checksum:032b}"[:-15], 2)
    assert masked_crc32c(data) == (rotated + 0xA282EAD8) % 2**32


def test_crc32c_of_every_length_equals_the_plain_loop() -> None:
    def plain(data: bytes) -> int:
        state = 0xFFFFFFFF
        for octet in data:
            state ^= octet
            for _ in range(8):
                state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        return state ^ 0xFFFFFFFF

    data = np.random.default_rng(0).integers(0, 256, 3112, dtype=np.uint8)
    for size in [*range(40), 1023, 1024, 1025, 1039, 1040, 2048, 3112]:
        checksum = plain(data[:size].tobytes())
        assert masked_crc32c(data[:size]) == masked_crc32c(data[:size].tobytes())
        assert masked_crc32c(data[:size]) == ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF, size
    large = np.tile(data, 400)
    assert masked_crc32c(large) == masked_crc32c(np.concatenate([large[:100_000], large[100_000:]]).tobytes())
    assert google_crc32c.value(large) != zlib.crc32(large.tobytes())
    # x -> crc(x) is affine: the checksums of equally long data add up.
    half = len(large) // 2
    a, b = large[:half], large[half : 2 * half]
    crc32c = google_crc32c.value
    assert crc32c(a ^ b) == crc32c(a) ^ crc32c(b) ^ crc32c(np.zeros(half, np.uint8))


def test_golden_records_are_read_as_tensorflow_reads_them() -> None:
    records = TFRecords([RECORDS])
    assert len(records) == 40
    for index in reversed(range(40)):  # in any order
        features = parse_example(records[index])
        assert set(features) == {
            "input_ids", "input_mask", "segment_ids", "token_boundary", "masked_lm_positions", "masked_lm_ids",
            "masked_lm_weights", "next_sentence_labels",
        }  # fmt: skip
        assert features["input_ids"].dtype == np.int64 and features["masked_lm_weights"].dtype == np.float32
        assert features["token_boundary"].tolist() == READ_BY_TENSORFLOW["token_boundary"][index]
    source = GoogleRecords([RECORDS], VOCAB_SIZE)
    assert (len(source), source.max_length, source.predictions) == (40, 128, 20)
    for index in range(40):
        found = source.example(9, index + 40 * (index % 3))  # epochs repeat
        for name, kind in (
            ("input_ids", np.int32), ("segment_ids", np.int32), ("mask", np.bool_), ("masked_positions", np.int32),
            ("masked_ids", np.int32), ("masked_weights", np.float32),
        ):  # fmt: skip
            assert found[name].dtype == kind
            assert np.array_equal(found[name], READ_BY_TENSORFLOW[name][index]), name
        assert [found["order_label"]] == READ_BY_TENSORFLOW["order_label"][index]
        assert found["order_weight"] == 1
    assert {int(source.example(0, index)["order_label"]) for index in range(40)} == {0, 1}


def test_unigram_counts_are_of_the_text_before_it_was_masked() -> None:
    counts = np.zeros(VOCAB_SIZE, np.int64)
    for index in range(40):
        ids = np.array(READ_BY_TENSORFLOW["input_ids"][index])
        for place, piece, weight in zip(
            *(READ_BY_TENSORFLOW[name][index] for name in ("masked_positions", "masked_ids", "masked_weights")),
            strict=True,
        ):
            if weight:
                ids[place] = piece
        np.add.at(counts, ids[np.array(READ_BY_TENSORFLOW["mask"][index]) > 0], 1)
    assert np.array_equal(GoogleRecords([RECORDS], VOCAB_SIZE).unigram_counts(), counts)


def test_several_files_are_one_source_and_workers_read_them(tmp_path) -> None:
    data = RECORDS.read_bytes()
    records = TFRecords([RECORDS])
    cut = sum(len(records[index]) + 16 for index in range(15))
    for name, part in (("b.tfrecord", data[cut:]), ("a.tfrecord", data[:cut]), ("c.tfrecord", b"")):
        (tmp_path / name).write_bytes(part)
    files = matching_files(str(tmp_path / "*.tfrecord"))
    assert [path.name for path in files] == ["a.tfrecord", "b.tfrecord", "c.tfrecord"]
    several = TFRecords(files)
    assert [several[index] for index in range(40)] == [records[index] for index in range(40)]
    assert several.name(14).endswith("a.tfrecord: record 14") and several.name(15).endswith("b.tfrecord: record 0")
    source = pickle.loads(pickle.dumps(GoogleRecords(files, VOCAB_SIZE)))
    assert np.array_equal(source.example(0, 39)["input_ids"], READ_BY_TENSORFLOW["input_ids"][39])
    with pytest.raises(IndexError):
        several[40]

    loaders = [Loader(source, 8, seed=3, epochs=1, worker_count=workers) for workers in (0, 1)]
    batches = [list(loader) for loader in loaders]
    for one, other in zip(*batches, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    seen = np.concatenate([batch["input_ids"] for batch in batches[0]])
    assert sorted(map(bytes, seen)) == sorted(
        np.array(row, np.int32).tobytes() for row in READ_BY_TENSORFLOW["input_ids"]
    )
    assert GoogleRecords(files, VOCAB_SIZE).fingerprint != GoogleRecords(files[:2], VOCAB_SIZE).fingerprint


def test_examples_in_every_encoding() -> None:
    unpacked = b"".join(bytes([1 << 3]) + varint(value) for value in (1, 300, -1))
    floats = b"".join(bytes([1 << 3 | 5]) + struct.pack("<f", value) for value in (0.5, -2.0))
    many = [0, 1, 127, 128, 16383, 16384, 2**31, 2**63 - 1, -1, -(2**63)]
    found = parse_example(
        example(
            a=field(3, unpacked), b=field(2, floats), c=integers(*many), d=field(3, b""), e=b"",
            f=field(1, field(1, b"x") + field(1, b"")), g=field(2, field(1, struct.pack("<2f", 1, 2))),
        )
    )  # fmt: skip
    assert found["a"].tolist() == [1, 300, -1] and found["b"].tolist() == [0.5, -2.0]
    assert found["c"].tolist() == many and found["d"].tolist() == [] and "e" not in found
    assert found["f"] == [b"x", b""] and found["g"].tolist() == [1, 2]
    # fields that no Example has are passed over
    assert parse_example(varint(9 << 3) + varint(5) + varint(9 << 3 | 1) + bytes(8) + example(a=integers(7)))["a"] == [
        7
    ]


# ------------------------------------------------------------------------------------------ bad input


def source_of(tmp_path: Path, data: bytes) -> GoogleRecords:
    (tmp_path / "bad.tfrecord").write_bytes(data)
    return GoogleRecords([tmp_path / "bad.tfrecord"], VOCAB_SIZE)


def test_every_flipped_bit_is_one_error_with_file_and_record(tmp_path) -> None:
    data = RECORDS.read_bytes()
    first, second = (len(TFRecords([RECORDS])[index]) + 16 for index in (0, 1))
    random = np.random.default_rng(2)
    for place in [*range(first, first + 40), *random.integers(first, first + second, 30).tolist(), first + second - 1]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        with pytest.raises(AlbertError, match=r"bad\.tfrecord: record 1 (is damaged|has a damaged length)") as error:
            source_of(tmp_path, bytes(damaged)).example(0, 1)
        assert "\n" not in str(error.value)
    assert len(source_of(tmp_path, data)) == 40


def test_a_file_that_ends_inside_a_record_is_one_error(tmp_path) -> None:
    data = RECORDS.read_bytes()
    last = len(TFRecords([RECORDS])[39]) + 16
    for missing in (1, 4, 5, last - 13, last - 12, last - 11, last - 1):
        with pytest.raises(AlbertError, match=r"bad\.tfrecord: record 39 is cut short"):
            source_of(tmp_path, data[: len(data) - missing])
    assert len(source_of(tmp_path, data[: len(data) - last])) == 39


def test_what_is_no_tfrecord_file(tmp_path) -> None:
    for content, told in (
        (b"This is a text, and a longer one than a header.", "record 0 has a damaged length, or this is no TFRecord"),
        (b"\x1f\x8b" + bytes(40), "it is compressed: unpack it"),
        (b"short", "record 0 is cut short"),
        (b"", "no records"),
        (framed(b"not an example"), r"record 0 is no tf\.train\.Example"),
        (framed(b"\x0a\x7f"), r"record 0 is no tf\.train\.Example \(a field longer than its message"),
        (framed(b"\x0a\xff"), r"record 0 is no tf\.train\.Example \(a number that does not end"),
        (framed(example(a=field(3, field(1, b"\x80")))), r"record 0 is no tf\.train\.Example"),
        (framed(example(a=field(3, field(1, b"\xff" * 10 + b"\x01")))), "more than ten bytes"),
        (framed(example(a=field(2, field(1, b"abc")))), r"record 0 is no tf\.train\.Example"),
        (framed(b""), "record 0 has no numbers in input_ids, .*it has nothing"),
        (framed(original(masked_lm_ids=field(1, field(1, b"x")))), "record 0 has no numbers in masked_lm_ids; it has"),
    ):
        with pytest.raises(AlbertError, match=told):
            source_of(tmp_path, content)
    with pytest.raises(AlbertError, match=r"none\*: there is no such file"):
        matching_files(str(tmp_path / "none*"))
    with pytest.raises(AlbertError, match="cannot be read"):
        TFRecords([tmp_path / "none"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size": 9}, "record 1: input_ids has 9 values, where the first record has 8"),
        ({"slots": 3}, "record 1: masked_lm_positions has 3 values, where the first record has 2"),
        ({"segment_ids": integers(0)}, "record 1: segment_ids has 1 values"),
        ({"next_sentence_labels": integers(0, 1)}, "record 1: next_sentence_labels has 2 values"),
        ({"input_ids": integers(2, 5, 6, 7, 8, 9, 700, 3)}, "record 1: input_ids goes from 2 to 700, and 0 to 699"),
        ({"input_ids": integers(2, 5, 6, 7, 8, 9, -1, 3)}, "record 1: input_ids goes from -1 to 9"),
        ({"masked_lm_positions": integers(1, 8)}, "record 1: masked_lm_positions goes from 1 to 8, and 0 to 7"),
        ({"masked_lm_ids": integers(1, 700)}, "record 1: masked_lm_ids goes from 1 to 700"),
        ({"segment_ids": integers(0, 0, 0, 0, 0, 0, 0, 2)}, "record 1: segment_ids goes from 0 to 2"),
        ({"next_sentence_labels": integers(2)}, "record 1: next_sentence_labels goes from 2 to 2"),
        ({"input_mask": integers(*[0] * 8)}, "record 1: input_mask is 0 everywhere"),
    ],
)
def test_records_that_do_not_fit(tmp_path, changes: dict, told: str) -> None:
    source = source_of(tmp_path, framed(original(), original(**changes)))
    assert source.example(0, 0)["input_ids"].tolist() == [2, 5, 6, 7, 8, 9, 10, 3]
    with pytest.raises(AlbertError, match=told):
        source.example(0, 1)
