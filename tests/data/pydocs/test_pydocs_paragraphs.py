"""Blanked package names, and labelled paragraphs on disk."""

import pytest

from albert_jax.data.pydocs.names import blank_names, blank_spans, package_names
from albert_jax.data.pydocs.paragraphs import Paragraph, _encode, load_names, load_paragraphs, write_paragraphs
from albert_jax.data.store.documents import SPLITS, split_of
from albert_jax.errors import AlbertError

PACKAGES = ["jax", "numpy", "scipy", "scikit-learn", "matplotlib", "flax", "grain", "tensorflow-datasets", "pyarrow"]
NAMES = sorted({name for package in PACKAGES for name in package_names(package)})


@pytest.mark.parametrize(
    ("text", "blanked"),
    [
        ("NumPy is like numpy, NUMPY too.", "it is like it, it too."),
        ("Call np.sum or jnp.sum on x.", "Call it.sum or it.sum on x."),
        ("See jax.numpy.linalg.norm.", "See it.linalg.norm."),
        ("Use scikit-learn, scikit_learn or sklearn.svm.", "Use it, it or it.svm."),
        ("A TensorFlow Datasets builder, tfds.load.", "A it builder, it.load."),
        ("Set to_numpy, NumpyArray, useNumpy and jaxlib.", "Set to_it, itArray, useit and it."),
        ("Read a TFRecord, plt.plot, MPLBACKEND.", "Read a itRecord, it.plot, MPLBACKEND."),
        ("A fine-grained grain; the PATH to inputs.", "A fine-grained it; the PATH to inputs."),
        ("JAX's arrays (nnx.Module).", "it's arrays (it.Module)."),
        ("an arrow, but arrow.Table", "an arrow, but it.Table"),
        ("İ numpy", "İ it"),  # lower case is longer than upper case here
        ("Nothing to do.", "Nothing to do."),
        ("", ""),
    ],
)
def test_blank_names(text, blanked):
    assert blank_names(text, NAMES) == blanked


def test_no_names_blank_nothing():
    assert blank_names("NumPy", ()) == "NumPy"


def test_names_of_a_package():
    assert package_names("scikit-learn") == ("scikit", "scikit-learn", "sklearn")
    assert {"np", "numpy"} <= set(package_names("numpy"))
    assert package_names("not-installed-here") == ("not-installed-here",)
    assert "py" not in package_names("pytest")


def test_spans_move_with_the_text():
    text = "In numpy call np.sum(x) and y."
    spans = ((3, 8), (14, 23), (28, 29))
    assert [text[start:end] for start, end in spans] == ["numpy", "np.sum(x)", "y"]
    blanked, moved = blank_spans(text, spans, NAMES)
    assert blanked == "In it call it.sum(x) and y."
    assert moved == ((3, 5), (11, 20), (25, 26))
    assert [blanked[start:end] for start, end in moved] == ["it", "it.sum(x)", "y"]


def test_spans_that_a_replacement_joins_become_one():
    assert blank_spans("Like numpy scipy here.", ((5, 10), (11, 16)), NAMES) == ("Like it here.", ((5, 7),))


def test_a_mention_is_moved_with_its_text():
    assert blank_spans("Uses np.dot.", ((5, 11),), NAMES) == ("Uses it.dot.", ((5, 11),))


FIELDS = ("text", "package", "module", "mention_starts", "mention_ends")
PARAGRAPHS = [
    Paragraph(f"Text {number} of a — x.", package, f"{package}/{number // 4}.py", ((0, 4), (5, 6)))
    for package in ("numpy", "jax")
    for number in range(400)
]


def test_round_trip_by_split(tmp_path):
    counts = write_paragraphs(tmp_path, PARAGRAPHS, validation=0.2, test=0.2)
    loaded = {split: load_paragraphs(tmp_path, split) for split in SPLITS}
    assert counts == {split: len(loaded[split]) for split in SPLITS}
    assert min(counts.values()) > 80  # 800 paragraphs of 200 modules, 40 +- 6 modules in the small splits
    for split in SPLITS:
        expected = [text for text in PARAGRAPHS if split_of(text.module, 0.2, 0.2) == split]
        assert loaded[split] == expected
    modules = [{text.module for text in loaded[split]} for split in SPLITS]
    assert sum(map(len, modules)) == len(set.union(*modules)) == 200


def test_tfds_reads_it(tmp_path):
    import tensorflow_datasets as tfds

    write_paragraphs(tmp_path, PARAGRAPHS)
    source = tfds.builder_from_directory(tmp_path / "paragraphs").as_data_source("validation")
    loaded = load_paragraphs(tmp_path, "validation")
    assert len(source) == len(loaded)
    example = source[3]
    assert example["text"].decode() == loaded[3].text
    assert example["package"].decode() == loaded[3].package
    assert example["module"].decode() == loaded[3].module
    assert example["mention_starts"].tolist() == [0, 5]
    assert example["mention_ends"].tolist() == [4, 6]


def test_equal_input_gives_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_paragraphs(tmp_path / name, iter(PARAGRAPHS))
    files = sorted(path.name for path in (tmp_path / "a" / "paragraphs").iterdir())
    assert len(files) == 6  # three shards, two files of TFDS, paragraphs.json
    for file in files:
        assert (tmp_path / "a" / "paragraphs" / file).read_bytes() == (
            tmp_path / "b" / "paragraphs" / file
        ).read_bytes(), file


def test_fields_of_a_record_are_in_the_order_of_their_names():
    # In one process chance may order them alike twice; over processes and releases only sorting does.
    record = _encode(PARAGRAPHS[0])
    places = [record.index(f"\n{chr(len(name))}{name}".encode()) for name in sorted(FIELDS)]
    assert places == sorted(places)


def test_empty_splits_and_paragraphs_without_mentions(tmp_path):
    write_paragraphs(tmp_path, [Paragraph("Some text.", "jax", "jax/a.py")], validation=0.0, test=0.0)
    assert load_paragraphs(tmp_path, "train") == [Paragraph("Some text.", "jax", "jax/a.py")]
    assert load_paragraphs(tmp_path, "test") == []


def test_names_are_stored_with_the_text(tmp_path):
    write_paragraphs(tmp_path, PARAGRAPHS)
    assert load_names(tmp_path) == {"jax": package_names("jax"), "numpy": package_names("numpy")}


def test_a_failed_rewrite_keeps_what_was_there(tmp_path):
    write_paragraphs(tmp_path, PARAGRAPHS)

    def failing():
        yield PARAGRAPHS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_paragraphs(tmp_path, failing())
    assert sum(len(load_paragraphs(tmp_path, split)) for split in SPLITS) == len(PARAGRAPHS)
    assert [path.name for path in tmp_path.iterdir()] == ["paragraphs"]


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(AlbertError, match="holds no labelled paragraphs"):
        load_paragraphs(tmp_path, "train")
    write_paragraphs(tmp_path, PARAGRAPHS)
    with pytest.raises(AlbertError, match="split 'dev': the splits are train, validation, test"):
        load_paragraphs(tmp_path, "dev")
    shard = tmp_path / "paragraphs" / "paragraphs-train.array_record-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(AlbertError, match=r"paragraphs-train.*00001: (cannot be read|holds \d+ paragraphs)"):
        load_paragraphs(tmp_path, "train")
    (tmp_path / "paragraphs" / "paragraphs.json").write_text("{")
    with pytest.raises(AlbertError, match=r"paragraphs\.json: cannot be read"):
        load_names(tmp_path)


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AlbertError, match="cannot be written"):
        write_paragraphs(tmp_path / "file", PARAGRAPHS)
