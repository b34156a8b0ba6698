"""A converted directory: a model that was not trained here.

`model.json` tells its shape and head, `weights.safetensors` holds its parameters under our own paths, `vocab/` its
vocabulary where it has one. `convert` writes it; training takes it for --init, and `albert_jax.load` reads it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from albert_jax import safetensors
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig
from albert_jax.safetensors import SafetensorsFile

MODEL_FILE, WEIGHTS = "model.json", "weights.safetensors"
_FORMAT = 1


@dataclass(frozen=True)
class About:
    """Attributes:
    model: the configuration
    head: what the parameters beside the encoder are for ("pretrain", "classification", ...), None for none
    labels: names of the head's classes by number, () where nobody named them
    problem: Hugging Face's problem_type, "" for none
    origin: path or hub name that it was converted from
    """

    model: AlbertConfig
    head: str | None
    labels: tuple[str, ...]
    problem: str
    origin: str


def is_converted(path: str | Path) -> bool:
    return (Path(path) / MODEL_FILE).is_file()


def about(path: str | Path) -> About:
    """What model.json tells. Raises AlbertError when it is damaged."""
    file = Path(path) / MODEL_FILE
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored.pop("format") != _FORMAT:
            raise ValueError("written by another version")
        stored["model"], stored["labels"] = AlbertConfig(**stored["model"]), tuple(stored["labels"])
        return About(**stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AlbertError) as error:
        raise AlbertError(f"{file} is damaged ({error}); convert again, or restore it from a copy") from error


def params(path: str | Path) -> dict[str, np.ndarray]:
    """Path -> parameter, float32. Raises AlbertError when the file is missing or damaged."""
    return dict(SafetensorsFile(Path(path) / WEIGHTS))


def write(directory: Path, told: About, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes weights and model.json into `directory`; model.json last."""
    safetensors.write(directory / WEIGHTS, arrays)
    text = json.dumps({"format": _FORMAT, **dataclasses.asdict(told)}, indent=2, ensure_ascii=False)
    (directory / MODEL_FILE).write_text(text + "\n", encoding="utf-8")
