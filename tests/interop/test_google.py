"""What people have of the original's checkpoints: archives, directories, prefixes, modules of TF-Hub."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest

from albert_jax.errors import AlbertError
from albert_jax.interop import tf_bundle
from albert_jax.interop.google import find
from albert_jax.interop.load import open_source
from albert_jax.interop.names import to_ours
from albert_jax.interop.released import RELEASED, config_from_google
from albert_jax.interop.tf_bundle import Bundle
from tests.goldens.google import draw
from tests.goldens.google.compare import GOLDENS, flat, params, shapes


def restored(path):
    with find(path) as found:
        return to_ours("tf", found.tensors(), found.config(), str(path)), found


def archive(path, directory, kind="w:gz"):
    """As Google's: one directory in it."""
    with tarfile.open(path, kind) as tar:
        tar.add(directory, "albert_toy")
    return path


@pytest.mark.parametrize(
    ("place", "case"),
    [
        ("trained", "one_group"),
        ("trained/model.ckpt-best", "one_group"),
        ("trained/model.ckpt-best.index", "one_group"),
        ("sharded", "one_group"),
        ("sharded/model.ckpt-1.data-00001-of-00003", "one_group"),
        ("hub_module", "tiny"),
        ("hub_module/variables/variables", "tiny"),
        ("prefixed", "tiny"),
        ("written/model.ckpt-best", "groups"),
    ],
)
def test_weights_are_restored_bitwise(place, case, tmp_path):
    if place.startswith("written"):
        shutil.copytree(GOLDENS / "written", tmp_path / "written")
        (tmp_path / "written" / "albert_config.json").write_text(json.dumps(draw.config(case)))
        found, _ = restored(tmp_path / place)
    else:
        found, _ = restored(GOLDENS / place)
    config = config_from_google(draw.config(case))
    wanted = flat(params(case, config))
    encoder = {path: x for path, x in wanted.items() if path.startswith("albert/")}
    for path, value in (encoder if case == "tiny" else wanted).items():
        assert found[path].tobytes() == value.tobytes(), path
    assert set(found) == set(encoder if case == "tiny" else wanted)


@pytest.mark.parametrize(("ending", "kind"), [(".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar", "w")])
def test_an_archive_is_unpacked_and_gone_again(ending, kind, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(GOLDENS / "trained", source)
    (source / "30k-clean.model").write_bytes(b"pieces")
    (source / "model.ckpt-best.meta").write_bytes(b"graph")
    path = archive(tmp_path / f"albert{ending}", source, kind)
    with find(path) as found:
        unpacked = found.prefix.parent
        assert found.vocabulary.read_bytes() == b"pieces"
        assert not (unpacked / "model.ckpt-best.meta").exists()
        assert found.config() == config_from_google(draw.config("one_group"))
    assert not unpacked.exists()
    assert restored(path)[0].keys() == restored(source)[0].keys()


def test_moments_are_not_read(tmp_path, monkeypatch):
    """A bit that is flipped in one is of no consequence, while one flipped in a weight of the same file is told."""
    shutil.copytree(GOLDENS / "sharded", tmp_path / "x")
    entries = Bundle(tmp_path / "x" / "model.ckpt-1").entries
    moments = {name for name in entries if name.endswith(("/adam_m", "/adam_v"))}
    asked = []
    read = tf_bundle.Bundle.__getitem__
    monkeypatch.setattr(tf_bundle.Bundle, "__getitem__", lambda self, name: (asked.append(name), read(self, name))[1])

    def flip(name):
        path = tmp_path / "x" / f"model.ckpt-1.data-0000{entries[name].shard}-of-00003"
        data = bytearray(path.read_bytes())
        data[entries[name].offset] ^= 1
        path.write_bytes(data)

    wanted = open_source(GOLDENS / "sharded").params
    for name in moments:
        flip(name)
    found = open_source(tmp_path / "x").params
    assert {path: array.tobytes() for path, array in found.items()} == {p: x.tobytes() for p, x in wanted.items()}
    assert len(moments) > 2 * len(wanted) - 1
    assert sorted(asked) == sorted(2 * list(set(entries) - moments - {"global_step"}))  # each weight once a source
    flip("bert/pooler/dense/kernel")
    with pytest.raises(AlbertError, match=r"data-0000\d-of-00003: bert/pooler/dense/kernel does not match"):
        open_source(tmp_path / "x")


def test_a_fine_tuned_classifier_is_taken_along():
    """And of two checkpoints the one that the file `checkpoint` names."""
    found, source = restored(GOLDENS / "classifier")
    assert source.prefix.name == "model.ckpt-9"
    weights = draw.weight("tiny", "output_weights", (3, 6))
    np.testing.assert_array_equal(found["classifier/kernel"], weights.T)
    np.testing.assert_array_equal(found["classifier/bias"], draw.weight("tiny", "output_bias", (3,)))


def test_a_file_that_names_its_checkpoint_by_another_machines_path(tmp_path):
    shutil.copytree(GOLDENS / "classifier", tmp_path / "x")
    (tmp_path / "x" / "checkpoint").write_text('model_checkpoint_path: "gs://bucket/run/model.ckpt-7"\n')
    with find(tmp_path / "x") as found:
        assert found.prefix.name == "model.ckpt-7"


def test_a_file_that_names_a_checkpoint_speaks_for_its_own_directory(tmp_path):
    for name in ("a", "b"):
        shutil.copytree(GOLDENS / "classifier", tmp_path / name)
    with pytest.raises(AlbertError, match=r"2 checkpoints \(a/model.ckpt-9, b/model.ckpt-9"), find(tmp_path):
        pass
    shutil.copytree(GOLDENS / "hub_module", tmp_path / "a" / "export" / "1")  # below it: an export of the same run
    with find(tmp_path / "a") as found:
        assert found.prefix == tmp_path / "a" / "model.ckpt-9"


@pytest.mark.parametrize("place", ["vocab.txt", "assets/vocab.txt", "30k-clean.model", "assets/30k-clean.model"])
def test_vocabularies(place, tmp_path):
    shutil.copytree(GOLDENS / "hub_module", tmp_path / "module")
    (tmp_path / "module" / place).write_text("x")
    for path in (tmp_path / "module", tmp_path / "module" / "variables" / "variables"):
        with find(path) as found:
            assert found.vocabulary == tmp_path / "module" / place
            assert found.config_path == tmp_path / "module" / "assets" / "albert_config.json"


def index_only(directory, row):
    """A module of a released size: its index, without the data that nobody reads."""
    config = RELEASED[row]
    directory.mkdir(parents=True)
    table = {b"": tf_bundle._HEADER % 1}
    for name, shape in shapes(config).items():
        table[f"module/{name}".encode()] = tf_bundle._message(tf_bundle.Entry(1, shape, 0, 0, 0, 0))
    (directory / "variables.index").write_bytes(tf_bundle.write_table(table))
    (directory / "variables.data-00000-of-00001").write_bytes(b"")
    return config


@pytest.mark.parametrize("row", ["albert_base_v1", "albert_xlarge_v2", "albert_xxlarge_zh"])
def test_a_module_without_a_configuration_is_known_by_its_shapes(row, tmp_path):
    config = index_only(tmp_path / row / "variables", row)
    with find(tmp_path / row) as found, pytest.warns(UserWarning, match=f"taking that of {row}"):
        assert found.config() == config


def test_other_shapes_need_their_configuration(tmp_path):
    shutil.copytree(GOLDENS / "prefixed", tmp_path / "x")
    (tmp_path / "x" / "albert_config.json").unlink()
    with find(tmp_path / "x") as found, pytest.raises(AlbertError, match="no albert_config.json.*cannot be read off"):
        found.config()
    with find(tmp_path / "x", GOLDENS / "prefixed" / "albert_config.json") as found:
        assert found.config() == config_from_google(draw.config("tiny"))
    with pytest.raises(AlbertError, match=r"nowhere.json: no such configuration"), find(tmp_path / "x", "nowhere.json"):
        pass


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [("../evil", tarfile.REGTYPE, ""), ("/evil", tarfile.REGTYPE, ""), ("x/model.ckpt.index", tarfile.SYMTYPE, "/etc"),
     ("x/model.ckpt.index", tarfile.LNKTYPE, "x/other"), ("x/fifo", tarfile.FIFOTYPE, "")],
)  # fmt: skip
def test_an_archive_that_reaches_out_is_refused(name, kind, target, tmp_path):
    path = tmp_path / "deep" / "albert.tar"
    path.parent.mkdir()
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    with tarfile.open(path, "w") as tar:
        tar.addfile(member, io.BytesIO())
    with pytest.raises(AlbertError, match=rf"albert.tar: {name} is no plain file"), find(path):
        pass
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive(share, tmp_path):
    path = archive(tmp_path / "albert.tar.gz", GOLDENS / "trained")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(AlbertError, match=r"albert.tar.gz: damaged archive"):
        restored(path)


def test_a_damaged_archive(tmp_path):
    path = archive(tmp_path / "albert.tar.gz", GOLDENS / "trained")
    data = bytearray(path.read_bytes())
    for place in range(40, len(data), len(data) // 7):
        broken = bytearray(data)
        broken[place : place + 3] = bytes(255 - octet for octet in broken[place : place + 3])
        path.write_bytes(broken)
        with pytest.raises(AlbertError, match=r"albert.tar.gz"):
            restored(path)


def test_damage_within_an_archive_is_told_by_the_archives_name(tmp_path):
    shutil.copytree(GOLDENS / "trained", tmp_path / "x")
    data = tmp_path / "x" / "model.ckpt-best.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-4] + b"oops")
    with (
        pytest.raises(AlbertError, match=r"albert.tar.gz/albert_toy/model.ckpt-best.data-00000-of-00001: \S+ does not"),
        find(archive(tmp_path / "albert.tar.gz", tmp_path / "x")) as found,
    ):
        dict(found.tensors())


def spoil_config(directory, **fields):
    (directory / "albert_config.json").write_text(json.dumps(draw.config("tiny") | fields))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: [path.unlink() for path in d.glob("*.index")], "has no .index beside it"),
        (lambda d: [path.unlink() for path in d.glob("model*")], "no .index file of a checkpoint is in it"),
        (lambda d: (d / "checkpoint").unlink(), r"2 checkpoints \(model.ckpt-7, model.ckpt-9, ...\); give the prefix"),
        (lambda d: (d / "albert_config.json").write_text("{"), "albert_config.json: not a JSON file"),
        (lambda d: (d / "albert_config.json").write_text("[1]"), "albert_config.json: a list instead of fields"),
        (lambda d: (d / "albert_config.json").unlink(), "no albert_config.json beside it"),
        (lambda d: spoil_config(d, hidden_size=9), r"has shape \(4, 6\).*needs \(4, 9\)"),
        (lambda d: spoil_config(d, vocab_size=10), r"word_embeddings has shape \(9, 4\).*needs \(10, 4\)"),
        (lambda d: spoil_config(d, num_hidden_groups=2), "nothing fills .*group_1.*"),
        (lambda d: spoil_config(d, net_structure_type=1), "net_structure_type is 1"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(change, said, tmp_path):
    shutil.copytree(GOLDENS / "classifier", tmp_path / "x")
    change(tmp_path / "x")
    with pytest.raises(AlbertError, match=said) as raised:
        restored(tmp_path / "x")
    assert "\n" not in str(raised.value)
    assert "/x" in str(raised.value)


def test_an_unknown_variable_is_named(tmp_path):
    tensors = dict(Bundle(GOLDENS / "classifier" / "model.ckpt-9"))
    tf_bundle.write(tmp_path / "model.ckpt", tensors | {"bert/encoder/extra/kernel": np.zeros((2, 2), np.float32)})
    spoil_config(tmp_path)
    with pytest.raises(AlbertError, match="bert/encoder/extra/kernel"):
        restored(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(AlbertError, match=r"nothing.index: there is no such checkpoint"), find(tmp_path / "nothing"):
        pass
    (tmp_path / "half.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(AlbertError, match=r"half.index: its data is here, its index is not"), find(tmp_path / "half"):
        pass
