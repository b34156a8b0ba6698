"""Normalisation of text before it is cut into pieces, and the way back to the characters that the user gave.

The rules are those of `preprocess_text` in google-research/albert `tokenization.py`, in its order: white space
collapsed to single spaces, NFKD, combining marks dropped, lower case.
"""

import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Normalization:
    """What is done to text before it is cut into pieces."""

    # Both are stored in vocab.json and belong to the fingerprint: a model trained under one choice reads text that was
    # normalised under another as noise.
    lower: bool = True  # lower-case the text; the released English models are uncased
    keep_accents: bool = False  # keep combining marks (accents, vowel signs), which the original drops


def normalize(text: str, choices: Normalization) -> str:
    """`text` as the pieces see it: `"  Café,\\u00a0 ﬁn "` -> `"cafe, fin"`."""
    words = " ".join(text.split())
    if not words.isascii():
        words = unicodedata.normalize("NFKD", words)
        if not choices.keep_accents:
            words = _combining_marks().sub("", words)
    return words.lower() if choices.lower else words


def normalize_batch(texts: Sequence[str], choices: Normalization) -> list[str]:
    """`[normalize(text, choices) for text in texts]`."""
    # English text is mostly ASCII: one test for the whole batch costs less than one for each text.
    if "".join(texts).isascii():
        if choices.lower:
            return [" ".join(text.split()).lower() for text in texts]
        return [" ".join(text.split()) for text in texts]
    return [normalize(text, choices) for text in texts]


def normalize_with_offsets(text: str, choices: Normalization) -> tuple[str, np.ndarray]:
    """The normalised text, and for each of its C characters the start and end in `text` of what it stands for.

    Returns `normalize(text, choices)` and int64 [C, 2]. Characters that NFKD made out of one ("ﬁ" -> "fi") share its
    span; a space spans the run of white space it stands for; an accented letter spans the marks that were dropped.
    """
    characters: list[str] = []
    spans: list[tuple[int, int]] = []
    previous_end = -1
    for word in re.finditer(r"\S+", text):  # the same white space as str.split
        if previous_end >= 0:
            characters.append(" ")
            spans.append((previous_end, word.start()))
        previous_end = word.end()
        for start, end in starter_runs(text, word.start(), word.end()):
            run = text[start:end]
            if not run.isascii():
                run = unicodedata.normalize("NFKD", run)
                if not choices.keep_accents:
                    run = _combining_marks().sub("", run)
            characters.append(run)
            spans.extend([(start, end)] * len(run))
    normalized = "".join(characters)
    # Lowered as a whole, because a final sigma depends on its neighbours. After NFKD lowering keeps the length: the one
    # character whose lower case is longer (U+0130) has been decomposed.
    lowered = normalized.lower() if choices.lower else normalized
    return lowered, np.asarray(spans, np.int64).reshape(-1, 2)


def starter_runs(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """[start, end) cut into runs of a character and its combining marks."""
    if text.isascii():
        return [(position, position + 1) for position in range(start, end)]
    # NFKD sorts the marks within a run, so their spans cannot be told apart; it never moves anything across a starter.
    cuts = [start]
    for position in range(start + 1, end):
        if not unicodedata.combining(unicodedata.normalize("NFKD", text[position])[0]):
            cuts.append(position)
    return list(zip(cuts, [*cuts[1:], end], strict=True))


@cache
def _combining_marks() -> re.Pattern[str]:
    """All characters with a canonical combining class. Finding them takes a tenth of a second, so it is done once."""
    marks = "".join(chr(point) for point in range(sys.maxunicode + 1) if unicodedata.combining(chr(point)))
    return re.compile(f"[{re.escape(marks)}]+")
