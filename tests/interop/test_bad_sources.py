"""Damaged and odd sources, destinations and requests, through the command line: one line, and nothing left behind."""

import io
import json
import shutil
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

import albert_jax
from albert_jax.__main__ import main
from albert_jax.errors import AlbertError
from albert_jax.interop import safetensors, tf_bundle
from albert_jax.interop.convert import convert
from albert_jax.interop.load import open_source
from tests.goldens.google.compare import GOLDENS as GOOGLE
from tests.interop.hf_goldens import GOLDENS, opened

FFN = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
TF_FFN = "bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel"
WORD = "albert/embeddings/word"


def listing(folder):
    return sorted((str(path.relative_to(folder)), path.lstat().st_size * path.is_file()) for path in folder.rglob("*"))


def refused(capsys, folder, source, destination="out", *options):
    """What `convert` says of it in its one line, after which all is as it was."""
    before = listing(folder)
    capsys.readouterr()
    with warnings.catch_warnings(action="error", category=RuntimeWarning):  # NumPy's would be lines of their own
        assert main(["convert", str(source), str(folder / destination), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    assert listing(folder) == before
    return said.replace(str(folder), "DIR")


# ---- changes to a source


def fields(name, **changes):
    def change(place):
        stored = json.loads((place / name).read_text())
        (place / name).write_text(json.dumps(stored | changes))

    return change


def shape(**changes):
    """Of the model in model.json."""

    def change(place):
        stored = json.loads((place / "model.json").read_text())
        stored["model"] |= changes
        (place / "model.json").write_text(json.dumps(stored))

    return change


def content(name, data):
    return lambda place: (place / name).write_bytes(data)


def tensors(name, change_tensors):
    def change(place):
        found = dict(safetensors.SafetensorsFile(place / name))
        safetensors.write(place / name, found | change_tensors(found))

    return change


def without(name, path):
    def change(place):
        found = dict(safetensors.SafetensorsFile(place / name))
        del found[path]
        safetensors.write(place / name, found)

    return change


def twice(place):
    """A header with a name two times; a parser that takes the last would not notice."""
    data = (place / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = data[8 : 8 + length].rstrip()
    again = json.dumps({"albert.pooler.bias": json.loads(header)["albert.pooler.bias"]}).encode()
    header = header[:-1] + b"," + again[1:]
    (place / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])


def index(change_table):
    """A checkpoint's index with another entry, checksums right."""

    def change(place):
        path = place / "model.ckpt-best.index"
        table = tf_bundle.read_table(path.read_bytes(), "index")
        change_table(table)
        path.write_bytes(tf_bundle.write_table(table))

    return change


def entry(**changes):
    found = {"dtype": 1, "shape": (1,), "shard": 0, "offset": 0, "size": 4, "checksum": 1} | changes
    return index(lambda table: table.update({TF_FFN.encode(): tf_bundle._message(tf_bundle.Entry(**found))}))


def zipped(compression, spoil):
    """The pickle's archive written anew, and spoiled."""

    def change(place):
        path = place / "pytorch_model.bin"
        with zipfile.ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w", compression) as new:
            for name, data in parts.items():
                new.writestr(name, data)
            first = next(info for info in new.infolist() if "/data/" in info.filename)
        data = bytearray(path.read_bytes())
        spoil(data, first.header_offset + 30 + len(first.filename))
        path.write_bytes(data)

    return change


def bad_stream(data, first):
    data[first : first + 20] = b"\xff" * 20


def encrypted(data, _):
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + 8] |= 1
        place = data.find(b"PK\x01\x02", place + 4)


def slots_gone(place):
    (place / "model.ckpt-1.data-00001-of-00003").unlink()  # Adam's first moments, which no model needs


def squeezed(kind, spoil):
    def change(place):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=f"w:{kind}") as archive:
            archive.add(GOOGLE / "trained", "mine")
        data = bytearray(file.getvalue())
        spoil(data)
        (place / "mine.tar").write_bytes(data)

    return change


def middle(data):
    data[len(data) // 2] ^= 4


HF, OURS, TF, PICKLE = "one_group", "ours", "trained", "groups"
NUMBERED = {"0": "a", "2": "b", "5": "c"}
SOURCES = [
    (HF, fields("config.json", num_hidden_layers=10**400), "DIR/source/config.json: num_hidden_layers is 1000"),
    (HF, fields("config.json", num_hidden_layers=None), "config.json: num_hidden_layers is None; give a whole number"),
    (HF, fields("config.json", num_hidden_layers=0), "config.json: model.layers is 0; it must be at least 1"),
    (HF, fields("config.json", layer_norm_eps=-1.0), "config.json: model.layer_norm_eps is -1.0"),
    (HF, fields("config.json", initializer_range=-1), "model.initializer_range -1.0"),
    (HF, fields("config.json", architectures={"a": 1}), "architectures is {'a': 1}; give a list with one name"),
    (HF, fields("config.json", architectures=[["x"]]), "architectures is [['x']]; give a list"),
    (HF, fields("config.json", problem_type="guess"), "problem_type is 'guess'; it is one of regression"),
    (HF, content("config.json", b"[" * 100_000), "config.json: not JSON (maximum recursion depth"),
    (HF, tensors("model.safetensors", lambda t: {FFN: t[FFN] * np.float32("nan")}), f"{FFN} holds 384 numbers that"),
    (HF, tensors("model.safetensors", lambda t: {FFN: np.full(t[FFN].shape, 1e300)}), f"{FFN} holds 384 numbers that"),
    (HF, tensors("model.safetensors", lambda t: {"a\nb": t[FFN]}), "no place in this model for a b;"),
    (HF, twice, "model.safetensors: not a safetensors file"),
    (HF, content("model.safetensors", struct.pack("<Q", 50_000) + b"[" * 50_000), "not a safetensors file"),
    ("classification", fields("config.json", id2label=NUMBERED), "id2label has no name for class 1 but for 0, 2, 5"),
    ("classification", fields("config.json", id2label=["a", "b", "c"]), "id2label is not an object of names"),
    ("classification", fields("config.json", id2label={"0": "a", "1": "b", "2": ["c"]}), "id2label is not an object"),
    ("classification", fields("config.json", id2label=dict.fromkeys("012", "a")), "id2label has the name 'a' twice"),
    (PICKLE, zipped(zipfile.ZIP_DEFLATED, bad_stream), "pytorch_model.bin: not a file of torch.save, or a damaged one"),
    (PICKLE, zipped(zipfile.ZIP_STORED, encrypted), "pytorch_model.bin: not a file of torch.save, or a damaged one"),
    (TF, content("albert_config.json", b"[" * 100_000), "albert_config.json: not a JSON file"),
    (TF, entry(shape=(2**50,), size=2**52), f"data-00000-of-00001: ends within {TF_FFN}"),
    (TF, entry(offset=2**63), f"data-00000-of-00001: ends within {TF_FFN}"),
    (TF, index(lambda table: table.update({b"": b"\x0a\x03abc"})), "model.ckpt-best.index: not the index of a checkp"),
    (
        "sharded",
        slots_gone,
        "DIR/source/model.ckpt-1.data-00001-of-00003: cannot read bert/embeddings/LayerNorm/beta/ad",
    ),
    ("tar", squeezed("xz", middle), "mine.tar: damaged archive or full disk (Corrupt input data)"),
    (
        "tar",
        squeezed("bz2", lambda data: data.__setitem__(0, 0)),
        "mine.tar: damaged archive or full disk (file could not be opened successfully:); fetch it again",
    ),
    (OURS, fields("model.json", head="guess"), "DIR/source: there is no head 'guess'; the heads are pretrain"),
    (OURS, fields("model.json", head=["span"]), "model.json is damaged (head is ['span']"),
    (OURS, fields("model.json", labels="ab"), "model.json is damaged (labels are 'ab')"),
    (OURS, shape(layers=3.0), "model.json is damaged (model.layers is 3.0)"),
    (OURS, shape(remat="guess"), "model.json is damaged (model.remat is 'guess')"),
    (OURS, shape(feed_forward_size=8), "intermediate/bias has shape (24,), the configuration says (8)"),
    (OURS, shape(groups=2), "albert/encoder/group_1/block_0/attention/query/kernel is missing"),
    (OURS, without("weights.safetensors", "span/bias"), "DIR/source: span/bias is missing; convert again"),
    (OURS, tensors("weights.safetensors", lambda t: {"x": t[WORD]}), "DIR/source: no place in this model for x"),
    (OURS, tensors("weights.safetensors", lambda t: {WORD: t[WORD].astype(np.float16)}), f"{WORD} is float16, not"),
    (OURS, tensors("weights.safetensors", lambda t: {WORD: t[WORD] + np.inf}), f"{WORD} holds 320 numbers that are"),
]


@pytest.mark.parametrize(("name", "change", "message"), SOURCES, ids=range(len(SOURCES)))
def test_a_source_is_refused(name, change, message, tmp_path, capsys):
    place = tmp_path / "source"
    if name == OURS:
        convert(GOLDENS / "span", place)
    elif name == "tar":
        place.mkdir()
    else:
        shutil.copytree(GOOGLE / name if (GOOGLE / name).is_dir() else GOLDENS / name, place)
    change(place)
    assert message in refused(capsys, tmp_path, place / "mine.tar" if name == "tar" else place)


def test_labels_that_are_not_the_classifiers(tmp_path, capsys):
    convert(GOLDENS / "classification", tmp_path / "source")
    fields("model.json", labels=["a", "b"])(tmp_path / "source")
    assert "it names 2 classes and the classifier has 3" in refused(capsys, tmp_path, tmp_path / "source")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the source's name is empty; give a directory"),
        ("a" * 5000, "cannot be read (File name too long)"),
        ("~nobody-of-that-name/model", "cannot be read (Could not determine home directory"),
        ("https://huggingface.co/albert/albert-base-v2", "an address is not read; fetch what is there"),
        ("/nonexistent/model", "/nonexistent/model: there is no such path; give a directory"),
    ],
)
def test_a_name_is_refused(name, message, tmp_path, capsys):
    assert message in refused(capsys, tmp_path, name)


def test_a_directory_called_checkpoint_is_not_the_note(tmp_path):
    shutil.copytree(GOOGLE / "trained", tmp_path / "source")
    (tmp_path / "source" / "checkpoint").mkdir()
    assert (
        open_source(tmp_path / "source").params[WORD].tobytes()
        == open_source(GOOGLE / "trained").params[WORD].tobytes()
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_read(dtype, tmp_path):
    shutil.copytree(GOLDENS / HF, tmp_path / "source")
    tensors("model.safetensors", lambda t: {name: x.astype(dtype) for name, x in t.items()})(tmp_path / "source")
    for path, array in open_source(tmp_path / "source").params.items():
        assert array.dtype == np.float32
        assert array.tobytes() == opened(HF).params[path].astype(dtype).astype(np.float32).tobytes()


# ---- destinations and requests


@pytest.mark.parametrize("place", ["source/out", "source/a/b/out", "link/out"])
def test_a_destination_in_the_source(place, tmp_path, capsys):
    shutil.copytree(GOLDENS / "span", tmp_path / "source")
    (tmp_path / "link").symlink_to(tmp_path / "source")
    assert "lies in the source" in refused(capsys, tmp_path, tmp_path / "source", place)


def test_destinations_that_cannot_be(tmp_path, capsys):
    assert "cannot be made (File name too long)" in refused(capsys, tmp_path, GOLDENS / "span", "a" * 300)
    (tmp_path / "file").write_text("x")
    assert "DIR/file/out: cannot be made" in refused(capsys, tmp_path, GOLDENS / "span", "file/out")
    assert "DIR is not empty" in refused(capsys, tmp_path, GOLDENS / "span", "new/..")
    with pytest.raises(AlbertError, match=r"~nobody-of-that-name/out: cannot be made \(Could not determine"):
        convert(GOLDENS / "span", "~nobody-of-that-name/out")


def test_directories_above_a_destination_go_with_it(tmp_path, capsys):
    assert "gelu_erf" in refused(capsys, tmp_path, GOLDENS / "groups", "a/b/out", "--to", "tf1")
    convert(GOLDENS / "span", tmp_path / "a" / "b" / ("x" * 250))
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x" * 250]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-positions", str(10**13)], "max_positions asks for 10,000,000,000,000 rows, more than this machine's"),
        (["--max-positions", "64", "--seed", str(2**70)], "the seed is 1180591620717411303424; give one from 0 to"),
        (["--max-positions", "64", "--seed", "-1"], "the seed is -1; give one from 0 to 4294967295"),
    ],
)
def test_growth_that_cannot_be(options, message, tmp_path, capsys):
    assert message in refused(capsys, tmp_path, GOLDENS / "span", "out", *options)


@pytest.mark.parametrize("layers", [0, -1, "3", 2.5, True])
def test_a_depth_that_is_none(layers):
    with pytest.raises(AlbertError, match=r"layers is .*; (give a whole number|it must be at least 1)"):
        albert_jax.load(GOLDENS / "span", layers=layers)
