"""What `prepare` made, in numbers and in words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax.data.store import paths as layout
from albert_jax.data.store.splits import SPLITS


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
        folders = (layout.documents_dir(directory), layout.index_path(directory, "train").parent)
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
        rows = [f"{self.directory}: {state}", ""]
        rows.append(f"  {'split':<12}{'documents':>12}{'sentences':>14}{'pieces':>16}{'shards':>8}")
        for split, counts in self.splits.items():
            rows.append(
                f"  {split:<12}{counts['documents']:>12,}{counts['sentences']:>14,}{counts['pieces']:>16,}"
                f"{len(counts['shard_lengths']):>8}"
            )
        rows.append("")
        rows.append(f"  vocabulary  {self.vocab_size:,} pieces, fingerprint {self.fingerprint[:12]}")
        rows.append(f"  on disk     {self.bytes_per_piece:.2f} bytes a piece")
        rows += [f"  warning: {line}" for line in self.warnings]
        return "\n".join(rows)
