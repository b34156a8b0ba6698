"""Labelled paragraphs of documentation, on disk as a TFDS dataset below a prepared directory.

    Paragraph("Sorts a in place.", "numpy", "numpy/ma/core.py", ((6, 7),))

`tfds.builder_from_directory("DIR/paragraphs").as_data_source("train")` reads the same records.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax.data.pydocs.names import package_names
from albert_jax.data.store import paths as layout
from albert_jax.data.store.documents import SPLITS, split_of
from albert_jax.errors import AlbertError, retold
from albert_jax.files import DAMAGE, unwritable, write_json

DATASET = "paragraphs"
_INDEX = "paragraphs.json"  # counts of the splits, and the names of each package as they were here


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of documentation as a reader sees it, and where it is from."""

    text: str
    package: str  # distribution name, "python" for the standard library
    module: str  # "numpy/linalg/_linalg.py"; the split is drawn by it
    mentions: tuple[tuple[int, int], ...] = ()  # [start, end) of what the author marked as code, in order, apart


def write_paragraphs(
    prepared_dir: str | Path, paragraphs: Iterable[Paragraph], validation: float = 0.05, test: float = 0.05
) -> dict[str, int]:
    """Writes DIR/paragraphs, one shard a split, paragraphs in the order given; equal input gives equal bytes.

    The split of a paragraph is that of its module, by `splits.split_of`: the same as the documents'. The dataset
    appears whole or not at all, and replaces an older one.

    `paragraphs` are read once, and only one is held at a time; `validation` and `test` are shares of modules.
    Returns how many paragraphs each split holds. Raises AlbertError for a directory that cannot be written.
    """
    from array_record.python import array_record_module

    final = layout.paragraphs_dir(Path(prepared_dir))
    unfinished = final.with_name(final.name + ".unfinished")
    counts = dict.fromkeys(SPLITS, 0)
    sizes = dict.fromkeys(SPLITS, 0)
    packages = set()
    advice = "free space or choose another directory"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        # All writers are closed, whichever of them fails: a shard that is not closed cannot be read.
        with contextlib.ExitStack() as stack:
            writers = {}
            for split in SPLITS:
                path = str(_shard(unfinished, split))
                writers[split] = array_record_module.ArrayRecordWriter(path, layout.ARRAY_RECORD_OPTIONS)
                stack.callback(writers[split].close)
            for paragraph in paragraphs:
                split = split_of(paragraph.module, validation, test)
                record = _encode(paragraph)
                writers[split].write(record)
                counts[split] += 1
                sizes[split] += len(record)
                packages.add(paragraph.package)
        for split in SPLITS:
            if not counts[split]:
                _shard(unfinished, split).unlink()  # TFDS has no empty splits
        _write_metadata(unfinished, counts, sizes)
        # The names are stored with the text: where it is read, other packages may be installed.
        names = {package: package_names(package) for package in sorted(packages)}
        write_json(unfinished / _INDEX, {"counts": counts, "names": names}, advice)
        # A directory cannot be replaced by another in one step; killed between the two, `prepare` writes it again.
        shutil.rmtree(final, ignore_errors=True)
        os.replace(unfinished, final)
    except OSError as error:
        raise unwritable(final, error, advice) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return counts


def load_paragraphs(prepared_dir: str | Path, split: str) -> list[Paragraph]:
    """The paragraphs of one split, in the order written.

    Raises AlbertError for a directory that holds none (only a pydocs corpus does), a damaged file, or another split.
    """
    from array_record.python import array_record_module

    if split not in SPLITS:
        raise AlbertError(f"split {split!r}: the splits are {', '.join(SPLITS)}")
    path = _shard(layout.paragraphs_dir(Path(prepared_dir)), split)
    expected = _index(prepared_dir)["counts"][split]
    if not expected:
        return []
    with _reading(path):
        reader = array_record_module.ArrayRecordReader(str(path))
        # Counted before it is read: a shard that was cut may hold whole records and no error.
        if reader.num_records() != expected:
            raise AlbertError(
                f"{path}: holds {reader.num_records()} paragraphs, not {expected}; prepare the directory again"
            )
        return [_decode(record) for record in reader.read_all()]


def load_names(prepared_dir: str | Path) -> dict[str, tuple[str, ...]]:
    """All names of each package in the stored paragraphs, as they were where the corpus was prepared.

    Raises AlbertError for a directory that holds no paragraphs, or a damaged file.
    """
    return {package: tuple(names) for package, names in _index(prepared_dir)["names"].items()}


def _index(prepared_dir: str | Path) -> dict[str, Any]:
    path = layout.paragraphs_dir(Path(prepared_dir)) / _INDEX
    if not path.parent.is_dir():
        raise AlbertError(f"{prepared_dir}: holds no labelled paragraphs; only `prepare --corpus pydocs` writes them")
    with _reading(path):
        index = json.loads(path.read_bytes())
        return {"counts": index["counts"], "names": index["names"]}


def _reading(path: Path) -> AbstractContextManager[None]:
    return retold(
        lambda message: f"{path}: cannot be read ({message}); prepare the directory again", *DAMAGE, RuntimeError
    )


def _shard(directory: Path, split: str) -> Path:
    return directory / f"{DATASET}-{split}.array_record-00000-of-00001"


def _encode(paragraph: Paragraph) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    def strings(value: str) -> Any:
        return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[value.encode("utf-8")]))

    def integers(values: list[int]) -> Any:
        return tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=values))

    feature = {
        "text": strings(paragraph.text),
        "package": strings(paragraph.package),
        "module": strings(paragraph.module),
        "mention_starts": integers([start for start, _ in paragraph.mentions]),
        "mention_ends": integers([end for _, end in paragraph.mentions]),
    }
    example = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=feature))
    # The order of the map's keys is otherwise left to chance, and equal paragraphs shall have equal bytes.
    return example.SerializeToString(deterministic=True)


def _decode(record: bytes) -> Paragraph:
    from tensorflow_datasets.proto import tf_example_pb2

    feature = tf_example_pb2.Example.FromString(record).features.feature
    text, package, module = (feature[key].bytes_list.value[0].decode() for key in ("text", "package", "module"))
    starts, ends = (feature[key].int64_list.value for key in ("mention_starts", "mention_ends"))
    return Paragraph(text, package, module, tuple(zip(starts, ends, strict=True)))


def _write_metadata(directory: Path, counts: dict[str, int], sizes: dict[str, int]) -> None:
    """features.json and dataset_info.json, by which any TFDS finds and reads the shards; empty splits unlisted."""
    import numpy as np
    import tensorflow_datasets as tfds

    def offsets(doc: str) -> Any:
        return tfds.features.Tensor(shape=(None,), dtype=np.int32, doc=doc)

    features = {
        "text": tfds.features.Text(doc="the paragraph, without markup"),
        "package": tfds.features.Text(doc="the distribution it documents"),
        "module": tfds.features.Text(doc="the source file it is from"),
        "mention_starts": offsets("first character of each code mention"),
        "mention_ends": offsets("character after each code mention"),
    }

    splits = [
        tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=sizes[split])
        for split, count in counts.items()
        if count
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=tfds.features.FeaturesDict(features),
        split_infos=splits,
        check_data=False,
        description="Paragraphs of the documentation of installed Python packages, with the package each documents.",
    )
