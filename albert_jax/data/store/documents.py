"""A document of a corpus, and the split it belongs to."""

import hashlib
from dataclasses import dataclass

from albert_jax.errors import AlbertError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences that were written to be read in this order."""

    sentences: tuple[str, ...]
    name: str = ""  # unique where the corpus has names
    label: str = ""  # what kind of document it is, where the corpus says so (for pydocs, the package)

    @property
    def split_key(self) -> str:
        """What the split is drawn by: documents with one name, or with the same text, share a split."""
        return self.name or " ".join(self.sentences)


def split_of(name: str, validation: float = 0.05, test: float = 0.05) -> str:
    """`name` -> "train", "validation" or "test"; `validation` and `test` are shares of names, in [0, 1].

    Raises AlbertError when a share is negative, or both together exceed 1.
    """
    # A hash, not a draw: a corpus may grow, shrink or be read in any order by any number of workers and no document
    # changes sides. What else is cut from a document (labelled paragraphs for fine-tuning) asks with the same name, so
    # that no text is trained on under one task and tested on under another.
    if not (validation >= 0.0 and test >= 0.0 and validation + test <= 1.0):
        raise AlbertError(
            f"validation share {validation}, test share {test}: give two numbers >= 0 whose sum is at most 1"
        )
    position = unit_interval(name)
    # The test names come first, so that another `validation` never moves a document into or out of the test split.
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"


def unit_interval(name: str) -> float:
    """A number in [0, 1), uniform over names: the first 53 bits of the BLAKE2b hash, which a double holds exactly."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53
