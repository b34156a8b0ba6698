"""TensorFlow datasets as corpora: `tfds:NAME[:FEATURE]` or `tfds:DIRECTORY[:FEATURE]`.

Read without TensorFlow, through `as_data_source`, which needs files with random access (ArrayRecord).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from albert_jax.errors import AlbertError, first_line, refuse, retold


def find(corpus: str) -> tuple[str, str, list[tuple[str, int, int]]]:
    """What `tfds:...` names: the dataset's directory, its text feature, and (split, examples, bytes) of what to read.

    The split read is `train`; a dataset without one is read whole. Raises AlbertError when there is no such dataset, no
    (or several) text features, or files without random access.
    """
    name, _, feature = corpus.removeprefix("tfds:").partition(":")
    if not name:
        raise AlbertError(f"{corpus}: give tfds:NAME, tfds:NAME:FEATURE or tfds:DIRECTORY")
    builder = open_builder(corpus, name)
    # The other splits stay unseen: they may be what a model is tested on later.
    names = ["train"] if "train" in builder.info.splits else sorted(builder.info.splits)
    infos = [builder.info.splits[name] for name in names]
    splits = [(info.name, info.num_examples, info.num_bytes) for info in infos]
    directory = str(builder.data_dir)
    texts = _text_features(builder.info.features)
    refuse(_no_feature(corpus, feature, texts))
    # Opened now and dropped: that its files have no random access is better said before a vocabulary is trained.
    open_source(directory, splits[0][0])
    return directory, feature or ("text" if "text" in texts else texts[0]), splits


def open_builder(spec: str, name: str) -> Any:
    """The builder of a dataset by its name or directory, its files on this machine: one that is not here yet is
    downloaded and prepared where TFDS keeps its datasets.

    Raises AlbertError, beginning with `spec`, when there is no such dataset or it has no examples.
    """
    import tensorflow_datasets as tfds

    try:
        if Path(name, "dataset_info.json").is_file():
            builder = tfds.builder_from_directory(name)
        else:
            import tensorflow_datasets.text  # registers its datasets, which TFDS by itself does with TensorFlow only

            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its download or its builder's imports raise
        raise AlbertError(
            f"{spec}: TFDS cannot give this dataset ({type(error).__name__}: {first_line(error)});"
            " prepare it elsewhere with `tfds build --file_format=array_record` and give its directory"
        ) from error
    if not any(split.num_examples for split in builder.info.splits.values()):
        raise AlbertError(f"{spec}: the dataset has no examples")
    return builder


def open_source(directory: str, split: str) -> Any:
    """The examples of one split, by index. Raises AlbertError when its files have no random access."""
    import tensorflow_datasets as tfds

    advice = "prepare the dataset again with `tfds build --file_format=array_record`"
    with retold(lambda said: f"{directory}: its files have no random access; {advice}", NotImplementedError):
        return tfds.builder_from_directory(directory).as_data_source(split=split)


def read_texts(directory: str, split: str, feature: str, start: int, stop: int | None) -> Iterator[str]:
    """The text of examples start..stop of a split."""
    source = open_source(directory, split)
    for index in range(start, len(source) if stop is None else stop):
        value = source[index]
        for key in feature.split("/"):
            value = value[key]
        yield value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _text_features(features: Any, prefix: str = "") -> list[str]:
    """The names of a dataset's text features; nested ones as a/b."""
    import tensorflow_datasets as tfds

    found = []
    for key, value in features.items():
        if isinstance(value, tfds.features.FeaturesDict):
            found += _text_features(value, f"{prefix}{key}/")
        elif isinstance(value, tfds.features.Text):
            found.append(prefix + key)
    return sorted(found)


def _no_feature(corpus: str, wanted: str, texts: list[str]) -> Iterator[str]:
    listed = ", ".join(texts) or "none"
    if wanted and wanted not in texts:
        yield f"{corpus}: {wanted!r} is no text feature of this dataset (it has: {listed})"
    if not wanted and "text" not in texts and len(texts) != 1:
        yield f"{corpus}: name its text feature as tfds:NAME:FEATURE (it has: {listed})"
