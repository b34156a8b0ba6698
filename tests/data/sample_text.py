"""Real English for tests, the same on every machine: topics of Python 3.11's own `help()`, a sentence a line.

The text is the Python Software Foundation's (docs.python.org/3.11/license.html). Other versions of Python word it
otherwise, and a vocabulary learned from other words is another vocabulary.
"""

import gzip
from functools import cache
from pathlib import Path

TEXT = Path(__file__).with_name("python_topics.txt.gz")


@cache
def documents(count: int = 60) -> tuple[tuple[str, ...], ...]:
    """Up to `count` documents of at least two sentences."""
    blocks = gzip.decompress(TEXT.read_bytes()).decode("utf-8").strip().split("\n\n")
    return tuple(tuple(block.split("\n")) for block in blocks[:count])


def write_corpus(path: Path, count: int = 60) -> Path:
    """`documents(count)` in the layout of one sentence a line."""
    path.write_text("\n\n".join("\n".join(sentences) for sentences in documents(count)) + "\n", encoding="utf-8")
    return path


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below `directory` with its bytes."""
    return {str(f.relative_to(directory)): f.read_bytes() for f in sorted(directory.rglob("*")) if f.is_file()}
