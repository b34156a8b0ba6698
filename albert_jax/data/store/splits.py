"""Which split a document belongs to: a pure function of its name.

Nothing is drawn and nothing is stored, so a corpus may grow, shrink or be read in any order by any number of
workers and no document changes sides. Everything cut from one document (sentences for pretraining, labelled
paragraphs for fine-tuning) asks with the same name and lands in the same split: no text is trained on under
one task and tested on under another.
"""

import hashlib

from albert_jax.errors import AlbertError

SPLITS = ("train", "validation", "test")


def unit_interval(name: str) -> float:
    """`name` -> a number in [0, 1), uniform over names: the first 53 bits of its BLAKE2b hash, exact in a
    double."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def split_of(name: str, validation: float = 0.05, test: float = 0.05) -> str:
    """`name` -> "train", "validation" or "test".

    Args:
        name: the document's name; equal names share a split.
        validation: share of names, in [0, 1], that go to "validation".
        test: share of names, in [0, 1], that go to "test". The test names are the first of the interval, so
            changing `validation` never moves a document into or out of the test split.

    Raises:
        AlbertError: a share is negative, or both together exceed 1.
    """
    if not (validation >= 0.0 and test >= 0.0 and validation + test <= 1.0):
        raise AlbertError(
            f"validation share {validation}, test share {test}: give two numbers >= 0 whose sum is at most 1"
        )
    position = unit_interval(name)
    if position < test:
        return "test"
    if position < test + validation:
        return "validation"
    return "train"
