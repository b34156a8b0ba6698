"""What a prepared directory or a vocabulary holds, in numbers and words: the report of `prepare` and of `inspect`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.store import paths
from albert_jax.data.store.documents import SPLITS
from albert_jax.data.store.store import DocumentStore
from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer, load
from albert_jax.data.text.vocabulary import CHOICES_FILE
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError

_SHOWN_PIECES = 40
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Summary:
    """The counts of a prepared directory."""

    directory: Path
    already_done: bool  # nothing was left to do
    splits: dict[str, dict[str, Any]]  # split -> documents, sentences, pieces, shard_lengths
    vocab_size: int
    fingerprint: str
    single_sentence_documents: int  # serve the masked-word loss alone
    empty_documents: int  # left out
    divided_documents: int  # stored in several records
    bytes_per_piece: float  # on disk: documents and index

    @classmethod
    def of(cls, directory: Path, manifest: dict[str, Any], already_done: bool = False) -> "Summary":
        """From a finished manifest and the files beside it."""
        folders = (paths.documents_dir(directory), paths.unigrams_path(directory).parent)
        size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
        pieces = sum(counts["pieces"] for counts in manifest["splits"].values())
        return cls(
            directory,
            already_done,
            manifest["splits"],
            manifest["vocab_size"],
            manifest["fingerprint"],
            manifest["single_sentence_documents"],
            manifest["empty_documents"],
            manifest["divided_documents"],
            size / max(pieces, 1),
        )

    @property
    def warnings(self) -> list[str]:
        """What the user may not have wanted, a line each."""
        lines = []
        documents = sum(counts["documents"] for counts in self.splits.values())
        if self.single_sentence_documents:
            lines.append(
                f"{self.single_sentence_documents:,} of {documents:,} documents have one sentence: they teach"
                " masked words, not sentence order"
            )
        if self.empty_documents:
            lines.append(f"{self.empty_documents:,} documents without a single piece were left out")
        if self.divided_documents:
            lines.append(f"{self.divided_documents:,} long documents were divided where a sentence ends")
        for split in SPLITS[1:]:
            if not self.splits[split]["documents"]:
                lines.append(f"no document fell into the {split} split: give more documents or a larger share")
        return lines

    def text(self) -> str:
        """A table of the splits, the vocabulary, and the warnings."""
        state = "already prepared, nothing to do" if self.already_done else "prepared"
        header = f"  {'split':<12}{'documents':>12}{'sentences':>14}{'pieces':>16}{'shards':>8}"
        rows = [f"{self.directory}: {state}", "", header]
        for split, counts in self.splits.items():
            rows.append(
                f"  {split:<12}{counts['documents']:>12,}{counts['sentences']:>14,}{counts['pieces']:>16,}"
                f"{len(counts['shard_lengths']):>8}"
            )
        rows += ["", f"  vocabulary  {self.vocab_size:,} pieces, fingerprint {self.fingerprint[:12]}"]
        rows += [f"  on disk     {self.bytes_per_piece:.2f} bytes a piece"]
        return "\n".join(rows + [f"  warning: {line}" for line in self.warnings])


def inspect(path: str | Path) -> str:
    """A page of text about a prepared directory, a vocabulary directory, a SentencePiece model, a vocab.txt or a
    tokenizer.json.

    Raises AlbertError when `path` is none of these, or damaged.
    """
    path = Path(path)
    if (path / paths.MANIFEST).exists():
        return describe_prepared(path)
    if (
        (path / CHOICES_FILE).exists()
        or path.suffix == ".model"
        or path.name in (WordPieceTokenizer.FILE, JsonTokenizer.FILE)
    ):
        return describe_vocabulary(load(path), str(path))
    raise AlbertError(f"{path}: neither a prepared directory ({paths.MANIFEST}) nor a vocabulary ({CHOICES_FILE})")


def describe_vocabulary(tokenizer: AnyTokenizer, name: str = "vocabulary") -> str:
    """Size, choices, first pieces, and what kinds of pieces there are."""
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    lengths = np.array([len(piece.strip("▁")) for piece in pieces])
    choices = tokenizer.normalization
    special = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    rows = [
        ("pieces", f"{tokenizer.vocab_size:,} ({tokenizer.dtype.name} ids)"),
        ("fingerprint", tokenizer.fingerprint),
        ("lower case", "yes" if choices.lower else "no"),
        ("accents", "kept" if choices.keep_accents else "dropped"),
        ("word rule", f"{tokenizer.word_rule}: {int(tokenizer.word_starts.sum()):,} pieces start a word"),
        ("characters", f"{lengths.mean():.1f} in a piece on average, {lengths.max()} at most"),
        ("special", " ".join(pieces[i] for i in special)),
        ("first", " ".join(pieces[special[-1] + 1 : special[-1] + 1 + _SHOWN_PIECES])),
    ]
    return _page(name, rows)


def describe_prepared(directory: Path) -> str:
    """Splits and counts, what it was made from, its vocabulary, and the head of a document."""
    manifest = paths.read_manifest(directory)
    made_from = [
        (name, " ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in manifest["made_from"].items()
    ]
    if not manifest["finished"]:
        done = len(list(paths.unfinished_dir(directory).glob("unit-*.npz")))
        state = ("state", f"unfinished, {done} shards done; run the same `prepare` command to continue")
        return _page(str(directory), [state, *made_from])
    stores = {split: DocumentStore.open(directory, split) for split in SPLITS}
    train = stores["train"]
    alone = [
        ("entropy", f"{train.unigram_entropy:.3f} nats"),
        ("accuracy", f"{train.unigram_accuracy:.3f} by always guessing the most frequent piece"),
    ]
    filled = {split: store for split, store in stores.items() if len(store)}
    sizes = [(f"{split}, pieces", _quartiles(store.lengths)) for split, store in filled.items()]
    sizes += [(f"{split}, sentences", _quartiles(store.sentence_counts)) for split, store in filled.items()]
    sections = [
        Summary.of(directory, manifest).text(),
        _page("made from", made_from),
        _page("train split, pieces alone", alone),
        _page("size of a document: smallest, quartiles, largest", sizes),
    ]
    tokenizer = train.tokenizer()
    if len(train):
        record = train.record(0)
        head = tokenizer.decode(record.pieces[:_SHOWN_CHARACTERS].tolist())[:_SHOWN_CHARACTERS]
        rows = [("name", record.name or "none"), ("label", record.label or "none"), ("text", head)]
        sections.append(_page("train document 0", rows))
    return "\n\n".join([*sections, describe_vocabulary(tokenizer)])


def _page(title: str, rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0) + 2
    return "\n".join([title, *(f"  {name:<{width}}{value}" for name, value in rows)])


def _quartiles(values: np.ndarray) -> str:
    return " ".join(f"{value:,.0f}" for value in np.percentile(values, [0, 25, 50, 75, 100]))
