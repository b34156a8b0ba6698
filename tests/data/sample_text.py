"""Real English for tests, on every machine: the topics of Python's own `help()`, a sentence a line."""

import pydoc_data.topics
import re
from functools import cache
from pathlib import Path


@cache
def documents(count: int = 60) -> tuple[tuple[str, ...], ...]:
    """Up to `count` documents of at least two sentences."""
    found = []
    for _, topic in sorted(pydoc_data.topics.topics.items()):
        sentences = tuple(
            sentence.strip()
            for block in topic.split("\n\n")
            if not block.lstrip().startswith((">", "+", "|"))
            for sentence in re.split(r"(?<=[.!?]) +(?=[A-Z])", " ".join(block.split()))
            if len(sentence) > 20
        )
        if len(sentences) > 1:
            found.append(sentences)
    return tuple(found[:count])


def write_corpus(path: Path, count: int = 60) -> Path:
    """`documents(count)` in the layout of one sentence a line."""
    path.write_text("\n\n".join("\n".join(sentences) for sentences in documents(count)) + "\n", encoding="utf-8")
    return path


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below `directory` with its bytes."""
    return {str(f.relative_to(directory)): f.read_bytes() for f in sorted(directory.rglob("*")) if f.is_file()}
