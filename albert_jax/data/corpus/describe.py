"""`python -m albert_jax inspect PATH`, for a vocabulary or a prepared directory: what is in it, as text."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from albert_jax.data.store import paths as layout
from albert_jax.data.store.splits import SPLITS
from albert_jax.data.store.store import DocumentStore
from albert_jax.data.store.summary import Summary
from albert_jax.data.text.sentencepiece import CHOICES_FILE
from albert_jax.data.text.tokenizers import AnyTokenizer, load
from albert_jax.data.text.wordpiece import VOCABULARY_FILE
from albert_jax.errors import AlbertError

_SHOWN_PIECES = 40
_SHOWN_CHARACTERS = 300


def can_inspect(path: str | Path) -> bool:
    """Whether `inspect` knows what `path` is."""
    path = Path(path)
    return (
        (path / layout.MANIFEST).exists()
        or (path / CHOICES_FILE).exists()
        or path.suffix == ".model"
        or path.name == VOCABULARY_FILE
    )


def inspect(path: str | Path) -> str:
    """A page of text about a prepared directory, a vocabulary directory, a SentencePiece model file or a vocab.txt.

    Raises:
        AlbertError: `path` is none of these, or damaged.
    """
    path = Path(path)
    if (path / layout.MANIFEST).exists():
        return describe_prepared(path)
    if can_inspect(path):
        return describe_vocabulary(load(path), str(path))
    raise AlbertError(f"{path}: neither a prepared directory ({layout.MANIFEST}) nor a vocabulary ({CHOICES_FILE})")


def describe_vocabulary(tokenizer: AnyTokenizer, name: str = "vocabulary") -> str:
    """Size, choices, first pieces, and what kinds of pieces there are."""
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    lengths = np.array([len(piece.strip("▁")) for piece in pieces])
    choices = tokenizer.normalization
    special = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    rows = [
        ("pieces", f"{tokenizer.vocab_size:,} ({tokenizer.dtype.name} ids)"),
        ("fingerprint", tokenizer.fingerprint),
        ("lower case", _yes(choices.lower)),
        ("accents", "kept" if choices.keep_accents else "dropped"),
        ("word rule", f"{tokenizer.word_rule}: {int(tokenizer.word_starts.sum()):,} pieces start a word"),
        ("characters", f"{lengths.mean():.1f} in a piece on average, {lengths.max()} at most"),
        ("special", " ".join(pieces[i] for i in special)),
        ("first", " ".join(pieces[special[-1] + 1 : special[-1] + 1 + _SHOWN_PIECES])),
    ]
    return _page(name, rows)


def describe_prepared(directory: Path) -> str:
    """Splits and counts, what it was made from, its vocabulary, and the head of a document."""
    manifest = layout.read_manifest(directory)
    assert manifest is not None
    rows = [(name, _value(value)) for name, value in manifest["made_from"].items()]
    if not manifest["finished"]:
        done = len(list(layout.unfinished_dir(directory).glob("unit-*.npz")))
        rows.insert(0, ("state", f"unfinished, {done} shards done; run the same `prepare` command to continue"))
        return _page(str(directory), rows)
    stores = {split: DocumentStore.open(directory, split) for split in SPLITS}
    train = stores["train"]
    sections = [Summary.of(directory, manifest).text(), _page("made from", rows)]
    sections.append(
        _page(
            "train split, pieces alone",
            [
                ("entropy", f"{train.unigram_entropy:.3f} nats"),
                ("accuracy", f"{train.unigram_accuracy:.3f} by always guessing the most frequent piece"),
            ],
        )
    )
    filled = {split: store for split, store in stores.items() if len(store)}
    sizes = [(f"{split}, pieces", _quartiles(store.lengths)) for split, store in filled.items()]
    sizes += [(f"{split}, sentences", _quartiles(store.sentence_counts)) for split, store in filled.items()]
    sections.append(_page("size of a document: smallest, quartiles, largest", sizes))
    tokenizer = train.tokenizer()
    if len(train):
        record = train.record(0)
        head = tokenizer.decode(record.pieces[:_SHOWN_CHARACTERS].tolist())[:_SHOWN_CHARACTERS]
        rows = [("name", record.name or "none"), ("label", record.label or "none"), ("text", head)]
        sections.append(_page("train document 0", rows))
    sections.append(describe_vocabulary(tokenizer))
    return "\n\n".join(sections)


def _page(title: str, rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0) + 2
    return "\n".join([title, *(f"  {name:<{width}}{value}" for name, value in rows)])


def _quartiles(values: np.ndarray) -> str:
    return " ".join(f"{value:,.0f}" for value in np.percentile(values, [0, 25, 50, 75, 100]))


def _value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
