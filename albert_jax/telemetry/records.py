"""The files that a run leaves for people and for `report`: metrics.jsonl and evaluation-SPLIT.json.

One JSON object a line, `{"step": 40, "kind": "train", "loss": 6.02, ...}`, with kind "train", "validation",
"test" or "event" (which has "text" instead of scalars). Strict JSON has no NaN, so a value that is not
finite is written as null and named once more in the same record, `"nonfinite": {"loss": "nan"}`;
`read_metrics` puts it back.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import numpy as np

from albert_jax.errors import AlbertError
from albert_jax.files import read_object, reading, write_atomically

METRICS = "metrics.jsonl"
ADVICE = "free space or choose another --workdir"  # for a file of the workdir that cannot be written


def make_record(step: int, kind: str, scalars: Mapping[str, float]) -> dict[str, Any]:
    """The JSON-able record of `scalars`.

    >>> make_record(40, "train", {"loss": math.nan, "mlm_accuracy": 0.25})
    {'step': 40, 'kind': 'train', 'loss': None, 'mlm_accuracy': 0.25, 'nonfinite': {'loss': 'nan'}}
    """
    broken = {name: str(value) for name, value in scalars.items() if not math.isfinite(value)}
    record = {"step": step, "kind": kind, **scalars, **dict.fromkeys(broken)}
    return record | {"nonfinite": broken} if broken else record


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Records of a `metrics.jsonl` or of the workdir that holds one, in order; an absent file is no records.

    A last line cut short by a kill is ignored, nulls are NaN or infinity again, and of two records of one
    step and kind the later replaces the earlier at its position (events are all kept).

    Raises AlbertError when a line other than the last is not a record.
    """
    path = Path(path)
    records: dict[Any, dict[str, Any]] = {}
    for number, record in enumerate(_parse(path / METRICS if path.is_dir() else path)):
        record |= {name: float(value) for name, value in record.pop("nonfinite", {}).items()}
        # A run that was killed between two checkpoints repeats steps. A dict keeps the position of the first.
        records[number if record["kind"] == "event" else (record["step"], record["kind"])] = record
    return list(records.values())


def _parse(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            record["step"], record["kind"]
        except (ValueError, TypeError, KeyError):
            # No newline after it: the writer was killed in the middle, and loses this line only.
            if number == len(lines):
                break
            raise AlbertError(
                f"{path}, line {number}: not a metrics record; remove the line, the others are used"
            ) from None
        records.append(record)
    return records


def drop_after(path: Path, start_step: int | None) -> None:
    """Makes the file ready to be appended to, atomically: without records past `start_step` (0: without any,
    None: with all) and without a half-written last line."""
    if not path.exists():
        return
    records = _parse(path)
    if start_step is not None:
        records = [record for record in records if start_step and record["step"] <= start_step]
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if text.encode() != path.read_bytes():
        write_atomically(path, text, ADVICE)


def to_numbers(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Python numbers from numbers and one-element arrays; None is left out.

    Raises ValueError when a value has more than one element.
    """
    numbers: dict[str, float] = {}
    # One transfer for all: each fetch of its own would wait for the device again.
    fetched = jax.device_get({name: value for name, value in scalars.items() if value is not None})
    for name, value in fetched.items():
        array = np.asarray(value)
        if array.size != 1:
            raise ValueError(f"metric {name!r} has shape {array.shape}, a scalar is needed")
        number = array.reshape(())[()]
        if isinstance(number, (np.integer, np.bool_)):
            numbers[name] = int(number)
        else:
            # str() of a float32 is the shortest decimal that reads back as the same float32: 0.1 instead of
            # 0.10000000149011612. Nothing is lost and the file stays readable.
            numbers[name] = float(str(number)) if isinstance(number, np.float32) else float(number)
    return numbers


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `evaluate` stored: scores (None where one has no value), split, step, experiment, baselines, tables.

    Raises AlbertError when the file is damaged.
    """
    advice = "run albert_jax evaluate, which writes it anew"
    record = read_object(path, advice)
    with reading(path, advice):
        # Every reader of an evaluation computes with these: what is no number must not get further than here.
        numbers = [*record["scores"].values(), *record.get("baselines", {}).values()]
        for each in record.get("plain", []):
            numbers += [*each["scores"].values(), len(each["name"])]
        if not all(isinstance(number, (int, float, NoneType)) for number in numbers):
            raise ValueError("a score is not a number")
    return record
