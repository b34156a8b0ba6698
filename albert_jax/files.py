"""Small files of ours, read and written in one way: whole or not at all, and damage is one line that names the file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from albert_jax.errors import AlbertError, first_line, retold

# What reading a file that is not what it should be may raise: the disk, the encoding, JSON, and the code that takes the
# content apart.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@contextmanager
def reading(path: str | Path, advice: str) -> Iterator[None]:
    """Within it, whatever a damaged file makes the reader raise becomes "PATH is damaged (...); ADVICE"."""
    with retold(lambda said: f"{path} is damaged ({said}); {advice}", *DAMAGE):
        yield


def read_json(path: Path, advice: str) -> Any:
    """The value in a JSON file. Raises AlbertError, which ends in `advice`, when there is none that can be read."""
    with reading(path, advice):
        return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """The object in a JSON file. Raises AlbertError, which ends in `advice`, when it holds anything else."""
    value = read_json(path, advice)
    with reading(path, advice):
        if not isinstance(value, dict):
            raise TypeError(f"a JSON object is needed, this is a {type(value).__name__}")
    return value


def write_atomically(path: Path, content: str | bytes, advice: str = "free space or choose another place") -> None:
    """Puts `content` at `path` whole or not at all, whenever the process is killed.

    Raises AlbertError, which ends in `advice`, when it cannot be written; what was there before is kept.
    """
    beside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or the new name could come to disk before the content
        os.replace(beside, path)
    except OSError as error:
        # On a full disk the leftover would take the space that is missing.
        beside.unlink(missing_ok=True)
        raise unwritable(path, error, advice) from error


def write_json(path: Path, value: Any, advice: str = "free space or choose another place") -> None:
    """`write_atomically` of a value as indented JSON."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", advice)


def unwritable(path: str | Path, error: OSError, advice: str = "free space or choose another --workdir") -> AlbertError:
    """The one line for a full disk or a directory that is not ours."""
    return AlbertError(f"{path}: cannot be written ({first_line(error)}); {advice}")
