"""The models in the box: Hugging Face directories inside the package, known as `albert_jax/NAME`; no network needed.

albert_jax/box/digests.json         name -> file -> SHA-256, of every file of every model
albert_jax/box/NAME/                config.json, model.safetensors (float16), spiece.model, ...
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.errors import AlbertError, refuse
from albert_jax.files import read_object, write_json
from albert_jax.interop import hf
from albert_jax.interop.source import LoadedModel

BOX = Path(__file__).parents[1] / "box"
DIGESTS = "digests.json"
PREFIX = "albert_jax/"
_ADVICE = "install the package again, or restore the file from its repository"


def is_name(name: str) -> bool:
    """Whether `name` is written as that of a model in the box, be it there or not."""
    return re.fullmatch(re.escape(PREFIX) + r"[\w.-]+", name) is not None


def names() -> list[str]:
    """The names that `albert_jax.load` takes without a network."""
    return [PREFIX + name for name in sorted(_digests())]


def directory(name: str) -> Path:
    """The directory of the model `name` ("albert_jax/small"), each of whose files has the digest that is on record.

    Raises AlbertError for a name that is not in the box, and for a file that is missing or another.
    """
    known = _digests()
    if name not in (there := names()):
        offer = f"in the box there are {', '.join(there)}" if there else "this installation has no model in its box"
        raise AlbertError(f"{name}: no such path, and no model of this name; {offer}")
    folder = BOX / name.removeprefix(PREFIX)
    refuse(f"{name}: {flaw}" for flaw in _flaws(folder, known[folder.name]))
    return folder


def _digests() -> dict[str, Any]:
    return read_object(BOX / DIGESTS, _ADVICE) if (BOX / DIGESTS).is_file() else {}


def _flaws(folder: Path, digests: Any) -> Iterator[str]:
    if not isinstance(digests, dict) or not digests:
        yield f"{BOX / DIGESTS} has no digests of its files; {_ADVICE}"
    for file, digest in digests.items():
        if not (folder / file).is_file():
            yield f"{folder / file} is missing; {_ADVICE}"
        if (found := _digest(folder / file)) != digest:
            yield f"{folder / file} has the digest {found[:12]}, on record is {str(digest)[:12]}; {_ADVICE}"


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def add(model: LoadedModel, name: str, box: Path | None = None) -> Path:
    """Writes `model` into the box as `name` ("small"), in float16, and puts its files on record; returns its directory.

    Files that stand there already, such as a card, stay and are put on record too. Raises AlbertError for a number that
    float16 cannot hold.
    """
    box = box or BOX
    folder = box / name
    folder.mkdir(parents=True, exist_ok=True)
    # tokenizer.json would be a tenth of the box, and `convert --to hf` makes it.
    hf.write(folder, model, np.float16, rules=False)
    known = read_object(box / DIGESTS, _ADVICE) if (box / DIGESTS).is_file() else {}
    known[name] = {file.name: _digest(file) for file in sorted(folder.iterdir())}
    write_json(box / DIGESTS, dict(sorted(known.items())))
    return folder
