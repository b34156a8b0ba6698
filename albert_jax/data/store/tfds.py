"""Any TensorFlow dataset with a text feature as a corpus: `tfds:NAME[:FEATURE]` or
`tfds:DIRECTORY[:FEATURE]`.

Read without TensorFlow, through `as_data_source`, which needs files with random access (ArrayRecord).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from albert_jax.errors import AlbertError


def find(corpus: str) -> tuple[str, str, list[tuple[str, int, int]]]:
    """What `tfds:...` names: the dataset's directory, its text feature, and (split, examples, bytes) of
    what to read.

    The split read is `train`; a dataset without one is read whole. A dataset that is not on this machine
    yet is downloaded and prepared where TFDS keeps its datasets.

    Raises:
        AlbertError: no such dataset, no (or several) text features, or files without random access.
    """
    name, _, feature = corpus.removeprefix("tfds:").partition(":")
    if not name:
        raise AlbertError(f"{corpus}: give tfds:NAME, tfds:NAME:FEATURE or tfds:DIRECTORY")
    builder = open_builder(corpus, name)
    names = ["train"] if "train" in builder.info.splits else sorted(builder.info.splits)
    infos = [builder.info.splits[name] for name in names]
    splits = [(info.name, info.num_examples, info.num_bytes) for info in infos]
    directory = str(builder.data_dir)
    feature = _text_feature(corpus, builder.info.features, feature)
    open_source(directory, splits[0][0])
    return directory, feature, splits


def open_builder(place: str, name: str) -> Any:
    """The builder of a dataset by its name or directory, its files on this machine. Raises AlbertError, beginning with
    `place`, when there is no such dataset or it has no examples."""
    import tensorflow_datasets as tfds

    try:
        if Path(name, "dataset_info.json").is_file():
            builder = tfds.builder_from_directory(name)
        else:
            import tensorflow_datasets.text  # registers its datasets, which TFDS by itself does with TensorFlow only

            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its download or its builder's imports raise
        reason = str(error).strip().split("\n")[0]
        raise AlbertError(
            f"{place}: TFDS cannot give this dataset ({type(error).__name__}: {reason});"
            " prepare it elsewhere with `tfds build --file_format=array_record` and give its directory"
        ) from error
    if not any(split.num_examples for split in builder.info.splits.values()):
        raise AlbertError(f"{place}: the dataset has no examples")
    return builder


def read_texts(directory: str, split: str, feature: str, start: int, stop: int | None) -> Iterator[str]:
    """The text of examples start..stop of a split."""
    source = open_source(directory, split)
    for index in range(start, len(source) if stop is None else stop):
        value = source[index]
        for key in feature.split("/"):
            value = value[key]
        yield value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def open_source(directory: str, split: str) -> Any:
    """The examples of one split, by index."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(directory).as_data_source(split=split)
    except NotImplementedError as error:
        raise AlbertError(
            f"{directory}: its files have no random access; prepare the dataset again with"
            " `tfds build --file_format=array_record`"
        ) from error


def _text_feature(corpus: str, features: Any, wanted: str) -> str:
    """The name of the dataset's text feature; nested ones as a/b."""
    import tensorflow_datasets as tfds

    texts = []
    waiting = [("", features)]
    while waiting:
        prefix, group = waiting.pop()
        for key, value in group.items():
            if isinstance(value, tfds.features.FeaturesDict):
                waiting.append((f"{prefix}{key}/", value))
            elif isinstance(value, tfds.features.Text):
                texts.append(prefix + key)
    listed = ", ".join(sorted(texts)) or "none"
    if wanted:
        if wanted not in texts:
            raise AlbertError(f"{corpus}: {wanted!r} is no text feature of this dataset (it has: {listed})")
        return wanted
    if "text" in texts:
        return "text"
    if len(texts) != 1:
        raise AlbertError(f"{corpus}: name its text feature as tfds:NAME:FEATURE (it has: {listed})")
    return texts[0]
