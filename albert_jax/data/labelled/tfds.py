"""Labelled texts and tagged sentences from TFDS: `tfds:NAME[:SPLIT]` or `tfds:DIRECTORY[:SPLIT]`."""

from collections.abc import Iterator, Mapping
from typing import Any

from albert_jax.data.labelled.conll import OUTSIDE, PLAIN, Sentence, is_of_entity
from albert_jax.data.labelled.tables import Columns, Labelled, make
from albert_jax.data.store.tfds import open_builder, open_source
from albert_jax.errors import AlbertError, refuse

# What datasets call the split that is asked for, where `spec` does not name one.
_SPLITS = {"train": ("train",), "validation": ("validation", "dev"), "test": ("test",)}


def read_labelled(spec: str, split: str, columns: Columns) -> list[Labelled]:
    """As `tables.read_labelled`, columns being features; a class label becomes its name."""
    features, examples = _open(spec, split)
    return [make(where, _named(where, features, example, columns.names), columns) for where, example in examples]


def read_tagged(spec: str, split: str, column: str = "") -> list[Sentence]:
    """The sentences of a dataset with a feature of words and one of as many class labels (CoNLL-2003: tokens, ner).
    `column` is another feature to read tags from, whose tags may be plain (CoNLL-2003: pos).

    Raises AlbertError when it has no such features, tags that are not IOB2, or a sentence of unequal numbers of both.
    """
    features, examples = _open(spec, split)
    words = _choose(spec, features, ("tokens", "words"))
    tags = _choose(spec, features, (column,) if column else ("ner", "ner_tags", "tags"))
    found = []
    for where, example in examples:
        record = _named(where, features, example, (words, tags))
        # Of a feature that a user names; by default a tag that is none of IOB2 is a mistake.
        plain = bool(column) and not any(map(is_of_entity, record[tags]))
        refuse(f"{where}: {complaint}" for complaint in _tag_flaws(record, words, tags, plain))
        if record[words]:
            scheme = PLAIN if plain else "IOB2"
            found.append(Sentence(tuple(record[words]), tuple(record[tags]), where, scheme))
    return found


def _tag_flaws(record: Mapping[str, Any], words: str, tags: str, plain: bool) -> Iterator[str]:
    if len(record[words]) != len(record[tags]):
        yield f"{len(record[words])} {words} but {len(record[tags])} {tags}"
    if plain:
        return
    # No conversion as for CoNLL columns: which scheme the tags obey shows only in the whole split, which is not kept
    # here.
    for before, tag in zip([OUTSIDE, *record[tags]], record[tags], strict=False):
        if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or (tag[0] == "I" and before[2:] != tag[2:])):
            yield f"the tag {tag!r} after {before!r} is not IOB2; write the split as CoNLL columns"


def _open(spec: str, split: str) -> tuple[Mapping[str, Any], Iterator[tuple[str, Any]]]:
    """The features of a dataset, and (what errors call it, example) of each example of a split."""
    name, _, wanted = spec.removeprefix("tfds:").partition(":")
    builder = open_builder(spec, name)
    existing = [known for known, info in builder.info.splits.items() if info.num_examples]
    chosen = next((known for known in ((wanted,) if wanted else _SPLITS[split]) if known in existing), None)
    if chosen is None:
        raise AlbertError(
            f"{spec}: the dataset has no split {wanted or split!r} (it has: {', '.join(existing)}); "
            f"name one as {spec.removesuffix(':' + wanted)}:SPLIT"
        )
    source = open_source(str(builder.data_dir), chosen)
    return builder.info.features, ((f"{spec}: {chosen} {index}", source[index]) for index in range(len(source)))


def _named(
    where: str, features: Mapping[str, Any], example: Mapping[str, Any], wanted: tuple[str, ...]
) -> dict[str, Any]:
    """An example, the wanted features in plain Python: bytes as text, class labels as names, arrays as lists."""
    return {
        name: _plain(where, name, features[name], value) if name in wanted else value for name, value in example.items()
    }


def _plain(where: str, name: str, feature: Any, value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    # By what a feature has and not by its class, so that TFDS need not be imported here.
    inner = getattr(feature, "feature", None)  # of a sequence
    if inner is not None:
        return [_plain(where, name, inner, item) for item in value]
    if hasattr(feature, "int2str"):
        if int(value) < 0:  # as GLUE has in its test splits
            raise AlbertError(f"{where}: {name!r} is {int(value)}: the labels of this split are not public")
        return feature.int2str(int(value))
    return value.tolist() if hasattr(value, "tolist") else value


def _choose(spec: str, features: Mapping[str, Any], names: tuple[str, ...]) -> str:
    chosen = next((name for name in names if name in features), None)
    if chosen is None:
        raise AlbertError(
            f"{spec}: none of its features is called {' or '.join(names)} (it has: {', '.join(features)})"
        )
    return chosen
