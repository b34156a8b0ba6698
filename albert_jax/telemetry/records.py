"""The files that a run leaves for people and for `report`: metrics.jsonl, baselines.json, evaluation-SPLIT.json.

One JSON object a line, `{"step": 40, "kind": "train", "loss": 6.02, ...}`, with kind "train", "validation",
"test" or "event" (which has "text" instead of scalars). Strict JSON has no NaN, so a value that is not
finite is written as null and named once more in the same record, `"nonfinite": {"loss": "nan"}`;
`read_metrics` puts it back.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import numpy as np

from albert_jax.errors import AlbertError

METRICS = "metrics.jsonl"
BASELINES = "baselines.json"


def make_record(step: int, kind: str, scalars: Mapping[str, float]) -> dict[str, Any]:
    """The JSON-able record of `scalars`.

    >>> make_record(40, "train", {"loss": math.nan, "mlm_accuracy": 0.25})
    {'step': 40, 'kind': 'train', 'loss': None, 'mlm_accuracy': 0.25, 'nonfinite': {'loss': 'nan'}}
    """
    record: dict[str, Any] = {"step": step, "kind": kind}
    record |= {name: value if math.isfinite(value) else None for name, value in scalars.items()}
    if broken := {name: str(value) for name, value in scalars.items() if not math.isfinite(value)}:
        record["nonfinite"] = broken
    return record


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Records of a `metrics.jsonl` or of the workdir that holds one, in order; an absent file is no records.

    A last line cut short by a kill is ignored, nulls are NaN or infinity again, and of two records of one
    step and kind the later stands at the place of the earlier (events are all kept).

    Raises:
        AlbertError: a line other than the last is not a record.
    """
    path = Path(path)
    if path.is_dir():
        path /= METRICS
    records: list[dict[str, Any]] = []
    places: dict[tuple[int, str], int] = {}
    for record in _parse(path):
        for name, value in record.pop("nonfinite", {}).items():
            record[name] = float(value)
        key = (record["step"], record["kind"])
        if record["kind"] != "event" and key in places:
            records[places[key]] = record
        else:
            places[key] = len(records)
            records.append(record)
    return records


def _parse(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            record["step"], record["kind"]
        except (ValueError, TypeError, KeyError):
            if number == len(lines):  # no newline after it: the writer was killed in the middle
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
        write_atomically(path, text)


def to_numbers(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Python numbers from numbers and one-element arrays, in one device transfer; None is left out.

    A float32 becomes the shortest decimal that reads back as the same float32 (0.1, not
    0.10000000149011612): nothing is lost and the file stays readable.

    Raises:
        ValueError: a value has more than one element.
    """
    values = {}
    present = {name: value for name, value in scalars.items() if value is not None}
    for name, fetched in jax.device_get(present).items():
        array = np.asarray(fetched)
        if array.size != 1:
            raise ValueError(f"metric {name!r} has shape {array.shape}, a scalar is needed")
        value = array.reshape(())[()]
        if isinstance(value, (np.integer, np.bool_)):
            values[name] = int(value)
        else:
            values[name] = float(str(value)) if isinstance(value, np.float32) else float(value)
    return values


def write_baselines(workdir: str | Path, baselines: Mapping[str, float]) -> None:
    """Stores what a model that looks at nothing reaches (nats; share 0..1), for the report's curves: `unigram_entropy`
    and `unigram_accuracy` of pretraining, `majority_accuracy` of fine-tuning."""
    values = {name: float(value) for name, value in baselines.items()}
    write_atomically(Path(workdir) / BASELINES, json.dumps(values) + "\n")


def read_baselines(workdir: str | Path) -> dict[str, float]:
    """What `write_baselines` stored; nothing where it is absent. Raises AlbertError when the file is damaged."""
    path = Path(workdir) / BASELINES
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise AlbertError(f"{path} is damaged ({error}); run train again, which writes it") from error


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `evaluate` stored: scores (None where one has no value), split, step, experiment, baselines, tables.

    Raises AlbertError when the file is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        scores = record.get("scores") if isinstance(record, dict) else None
        if not isinstance(scores, dict) or not all(isinstance(x, (int, float, NoneType)) for x in scores.values()):
            raise ValueError("no scores in it")
    except (OSError, ValueError, RecursionError) as error:
        raise AlbertError(f"{path} is damaged ({error}); run albert_jax evaluate, which writes it anew") from error
    return record


def write_atomically(path: Path, text: str) -> None:
    """Puts `text` at `path` whole or not at all."""
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> AlbertError:
    """The one line for a full disk or a directory that is not ours."""
    return AlbertError(f"{path}: cannot be written ({error.strerror}); free space or choose another --workdir")
