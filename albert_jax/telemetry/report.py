"""`report/index.html` of a workdir: curves, scores, confusion matrix, configuration, in one file to keep.

Reads what the run left behind and needs nothing of it: metrics.jsonl, experiment.json, scores.json (baselines.json in
older workdirs) and evaluation-*.json. A part that is missing is left out. Pictures are inside the page, and beside it
as PNG. How the page looks is in `report.html.jinja`.
"""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from albert_jax.errors import AlbertError, retold
from albert_jax.files import write_atomically
from albert_jax.telemetry.baselines import best_of, read_stored
from albert_jax.telemetry.records import ADVICE, METRICS, read_evaluation, read_metrics
from albert_jax.telemetry.scores import LEARNING_RATE, THROUGHPUT, Score, filled, read_scores
from albert_jax.telemetry.tables import (
    certainty,
    confused_pairs,
    format_count,
    format_seconds,
    mistake_rows,
    report_rows,
)

_AVERAGES = ("micro avg (= accuracy)", "micro avg", "macro avg", "weighted avg", "samples avg")

_PAIRS, _MISTAKES = 10, 20  # that the page lists of each evaluation

Record = Mapping[str, Any]


def write_report(workdir: str | Path) -> Path:
    """Writes report/index.html and its PNGs and returns the path of the page.

    An evaluation-*.json holds {"split", "step", "scores": {name: value}} and, for a classification,
    "labels": [C names], "confusion": [C][C] counts (rows true, columns predicted) and "report": what
    scikit-learn's `classification_report` gives, as a dict or as text; without it the table is computed
    from the confusion matrix.

    Raises AlbertError when the workdir is missing, the report cannot be written, or a file is not the JSON that it
    should be.
    """
    # Here, as matplotlib and scikit-learn below: no other command should wait for what only reports need.
    import jinja2

    workdir = Path(workdir)
    if not workdir.is_dir():
        raise AlbertError(f"{workdir}: no such workdir; pass the directory that `train` wrote")
    records = read_metrics(workdir)
    configuration = _configuration(workdir / "experiment.json")
    evaluations = {path: read_evaluation(path) for path in sorted(workdir.glob("evaluation-*.json"))}
    # The curves are those of training and validation, so a baseline of another split is no line across them.
    scores = list(read_scores(workdir).values())
    # Besides headlines those with a baseline of their own, which is there to be seen beside the curve.
    with_curve = {score.name for score in scores if score.headline or score.against}
    of_validation = best_of(scores, {}, read_stored(workdir, "validation"))
    scores = [of_validation.get(score.name, score) for score in scores]
    for evaluation in evaluations.values():
        if evaluation.get("split") == "validation":
            scores = [_filled(score, evaluation) for score in scores]

    directory = workdir / "report"
    with retold(lambda said: f"{directory}: cannot be written ({said}); free space or fix its rights", OSError):
        directory.mkdir(exist_ok=True)
        # A score that the run no longer has must not stay as a picture beside the new page.
        for stale in directory.glob("*.png"):
            stale.unlink()
        drawn = [score for score in scores if score.name in with_curve]
        curves = _curves(drawn, records, directory, _best_step(scores, records))
        shown = [_evaluation(path, evaluation, directory) for path, evaluation in evaluations.items()]

    template = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    html = page.render(
        title=_title(configuration) or workdir.resolve().name,
        workdir=workdir,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        tiles=_score_tiles(scores, records, list(evaluations.values())) + _speed_tiles(records),
        metrics=workdir / METRICS,
        events=[record for record in records if record["kind"] == "event"],
        curves=curves,
        evaluations=shown,
        configuration=configuration,
    )
    write_atomically(directory / "index.html", html + "\n", ADVICE)
    return directory / "index.html"


def _score_tiles(
    scores: Sequence[Score], records: Sequence[Record], evaluations: Sequence[Record]
) -> list[tuple[str, str, str]]:
    """The last held-out headline scores."""
    last = {record["kind"]: record for record in records}
    # The farther from training, the better the evidence: test over validation over training.
    values = {**last.get("validation", last.get("train", {})), **last.get("test", {})}
    source = "test" if "test" in last else "validation" if "validation" in last else "training"
    held_out = [evaluation for evaluation in evaluations if evaluation.get("split") in ("validation", "test")]
    for evaluation in sorted(held_out, key=lambda evaluation: evaluation["split"] == "test"):
        values |= {name: value for name, value in evaluation["scores"].items() if _is_finite(value)}
        source = evaluation["split"]
        scores = [_filled(score, evaluation) for score in scores]
    tiles = []
    # Losses last: who opens a report asks first how good the model is.
    for score in sorted(scores, key=lambda score: not score.higher_is_better):
        value = values.get(score.name)
        if score.headline and value is not None and _is_finite(value):
            # A tile is read at a glance, and the fourth decimal of a loss in a table.
            text = f"{value:.3f}" if score.format == ".4f" else score.text(value)
            tiles.append((text, score.title, "; ".join(filter(None, (source, score.baseline_text)))))
    return tiles


def _speed_tiles(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    train = [record for record in records if record["kind"] == "train"]
    if not train:
        return []

    def finite(name: str) -> list[float]:
        return [record[name] for record in train if _is_finite(record.get(name))]

    seconds, speeds, rates = finite("seconds"), finite("tokens_per_second"), finite("model_flops_per_second")
    shares, waits = finite("peak_share"), finite("data_wait_share")
    tiles = [(f"{train[-1]['step']:,}", "steps", f"in {format_seconds(seconds[-1])}" if seconds else "taken")]
    # Medians: a record with a busy neighbour in it is slow, and says nothing about the code.
    if speeds:
        detail = f"median; {format_count(float(np.median(rates)))}FLOP/s of the model" if rates else "median"
        tiles.append((format_count(float(np.median(speeds))), "tokens/s", detail))
        mfu = f"{np.median(shares):.0%}" if shares else "unknown device"
        tiles.append((mfu, "MFU", "median share of the matmul peak"))
    if waits:
        tiles.append((f"{np.median(waits):.1%}", "data wait", f"median share of a step; at most {max(waits):.0%}"))
    return tiles


def _filled(score: Score, evaluation: Record) -> Score:
    return filled(score, evaluation.get("baselines", {}), evaluation.get("against"))


def _best_step(scores: Sequence[Score], records: Sequence[Record]) -> int | None:
    """The step whose checkpoint is the run's best; None where no score is known to rank them."""
    for score in scores:
        validated = [record for record in records if record["kind"] == "validation" and record["step"]]
        known = [(record[score.name], record["step"]) for record in validated if _is_finite(record.get(score.name))]
        if score.ranks and known:
            return (max if score.higher_is_better else min)(known, key=lambda each: each[0])[1]
    return None


def _title(configuration: Sequence[tuple[str, list[tuple[str, str]]]]) -> str:
    """The experiment's name; empty where it has none."""
    return dict(dict(configuration).get("experiment", [])).get("name", "")


def _curves(
    scores: Sequence[Score], records: Sequence[Record], directory: Path, best: int | None
) -> list[dict[str, str]]:
    from albert_jax.telemetry.charts import draw_curve

    wanted = {re.sub(r"\W+", "_", score.title.lower()): score for score in scores}
    wanted |= {"learning_rate": LEARNING_RATE, "throughput": THROUGHPUT}
    files = {directory / f"{name}.png": score for name, score in wanted.items()}
    return [_image(score.chart_title, path) for path, score in files.items() if draw_curve(score, records, path, best)]


def _evaluation(path: Path, evaluation: Record, directory: Path) -> dict[str, Any]:
    """What the template shows of an evaluation; its confusion matrix is drawn into `directory`."""
    from albert_jax.telemetry.charts import draw_confusion

    name, plain = path.stem.removeprefix("evaluation-"), evaluation.get("plain", [])
    step = f", step {evaluation['step']:,}" if isinstance(evaluation.get("step"), int) else ""
    report, picture = evaluation.get("report"), directory / f"confusion-{name}.png"
    pairs: list[tuple[str, ...]] = []
    mistakes = evaluation.get("mistakes", [])[:_MISTAKES]
    caption = ""
    if evaluation.get("labels") and evaluation.get("confusion"):
        confusion = np.asarray(evaluation["confusion"])
        caption = draw_confusion(evaluation["labels"], confusion, picture)
        pairs = [(true, guess, f"{count:,}", f"{share:.1%}")
                 for true, guess, count, share in confused_pairs(evaluation["labels"], confusion, _PAIRS)]  # fmt: skip
        report = report or report_of(evaluation["labels"], confusion)
    reports = {"class": report, "entity": evaluation.get("entities")}
    return {
        "title": f"Evaluation on {evaluation.get('split', name)}{step}",
        "headers": ("score", "value", *(each["name"] for each in plain)),
        "scores": [
            (score.replace("_", " "), *map(_number, (value, *(each["scores"].get(score) for each in plain))))
            for score, value in evaluation["scores"].items()
        ],
        "text": report if isinstance(report, str) else "",
        "reports": [
            _classification(name, table) for name, table in reports.items() if table and isinstance(table, Mapping)
        ],
        "notes": [
            *evaluation.get("notes", ()),
            *evaluation.get("verdicts", ()),
            *(f"{each['name']}: {each['note']}" for each in plain if each["note"]),
        ],
        "confusion": _image("Confusion matrix", picture) | {"caption": caption} if picture.exists() else None,
        "pairs": pairs,
        "mistakes": mistake_rows(mistakes),
        "certainty": certainty(mistakes),
    }


def _classification(rows_are: str, report: Record) -> tuple[str, list[tuple[str, ...]], int]:
    """What the rows are, the rows, and how many of them come before the averages."""
    rows = [(name, *(f"{x:.3f}" for x in numbers), f"{support:,}") for name, *numbers, support in report_rows(report)]
    return rows_are, rows, sum(row[0] not in _AVERAGES for row in rows)


def report_of(labels: Sequence[str], confusion: np.ndarray) -> dict[str, Any]:
    """scikit-learn's `classification_report(output_dict=True)` of a confusion matrix [C, C] (rows true, columns
    predicted), for older evaluations that hold no report."""
    from sklearn.metrics import classification_report

    # As many pairs (true, predicted) as each cell counts: nothing else of the examples matters to the report.
    true, guess = np.repeat(np.indices(confusion.shape).reshape(2, -1), confusion.ravel(), axis=1)
    options: dict[str, Any] = {"labels": range(len(labels)), "output_dict": True, "zero_division": 0}
    return classification_report(true, guess, target_names=list(labels), **options)


def _configuration(path: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """(name, rows) of each group of an experiment; nothing where the file is absent."""
    if not path.exists():
        return []
    advice = "delete it and run the command that wrote it"
    with retold(lambda message: f"{path}: not valid JSON ({message}); {advice}", ValueError, TypeError, RecursionError):
        experiment = dict(json.loads(path.read_text(encoding="utf-8")))
    nested = {name: value for name, value in experiment.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in experiment.items() if name not in nested}
    groups = {"experiment": plain, **nested} if plain else nested
    return [(name, _configuration_rows(values)) for name, values in groups.items()]


def _configuration_rows(values: Record) -> list[tuple[str, str]]:
    # An empty dict within is a value, to be shown.
    flat = flatten_dict(dict(values), sep=".", is_leaf=lambda path, value: bool(path) and not value)
    texts = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in flat.values())
    return list(zip(flat, texts, strict=True))


def _image(title: str, path: Path) -> dict[str, str]:
    """A PNG for the template, which takes it into the page itself."""
    return {"title": title, "data": base64.b64encode(path.read_bytes()).decode()}


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
