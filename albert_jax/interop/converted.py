"""A converted directory: a model that was not trained here.

`model.json` tells its shape and head, `weights.safetensors` holds its parameters under our own paths, `vocab/` its
vocabulary where it has one. `convert` writes it; training takes it for --init, and `albert_jax.load` reads it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from albert_jax.errors import AlbertError
from albert_jax.interop import safetensors
from albert_jax.interop.safetensors import SafetensorsFile
from albert_jax.model.config import AlbertConfig

MODEL_FILE, WEIGHTS = "model.json", "weights.safetensors"
_FORMAT = 1


@dataclass(frozen=True)
class Metadata:
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


def read_metadata(path: str | Path) -> Metadata:
    """What model.json tells. Raises AlbertError when it is damaged."""
    file = Path(path) / MODEL_FILE
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored.pop("format") != _FORMAT:
            raise ValueError("written by another version")
        stored["model"], stored["labels"] = _model(stored["model"]), _names(stored["labels"])
        told = Metadata(**stored)
        if not all(isinstance(text, str) for text in (told.head or "", told.problem, told.origin)):
            raise ValueError(f"head is {told.head!r}, problem {told.problem!r}, origin {told.origin!r}")
        return told
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, AlbertError) as error:
        raise AlbertError(f"{file} is damaged ({error}); convert again, or restore it from a copy") from error


def _model(fields: dict[str, Any]) -> AlbertConfig:
    """The configuration, whose class checks numbers but not types."""
    hints = get_type_hints(AlbertConfig)
    for name, value in fields.items():
        kind = hints.get(name, type(value))  # the class complains of a field that it lacks
        kinds = (int, float) if kind is float else (kind,)
        if not (value in get_args(kind) if get_args(kind) else type(value) in kinds):
            raise ValueError(f"model.{name} is {value!r}")
    return AlbertConfig(**fields)


def _names(labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels are {labels!r}")
    return tuple(labels)


def params(path: str | Path) -> dict[str, np.ndarray]:
    """Path -> parameter, float32. Raises AlbertError when the file is missing or damaged."""
    return dict(SafetensorsFile(Path(path) / WEIGHTS))


def write(directory: Path, told: Metadata, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes weights and model.json into `directory`; model.json last."""
    safetensors.write(directory / WEIGHTS, arrays)
    text = json.dumps({"format": _FORMAT, **dataclasses.asdict(told)}, indent=2, ensure_ascii=False)
    (directory / MODEL_FILE).write_text(text + "\n", encoding="utf-8")
