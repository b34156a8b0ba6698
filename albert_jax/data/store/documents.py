"""What a corpus is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences that were written to be read in this order.

    name: unique where the corpus has names; the split is drawn by it, else by the text itself.
    label: what kind of document it is, where the corpus says so (for pydocs, the package).
    """

    sentences: tuple[str, ...]
    name: str = ""
    label: str = ""

    @property
    def split_key(self) -> str:
        """What the split is drawn by: documents with one name, or with the same text, share a split."""
        return self.name or " ".join(self.sentences)
