"""`report/index.html` of a workdir: curves, scores, confusion matrix, configuration, in one file to keep.

Reads what the run left behind and needs nothing of it: metrics.jsonl, experiment.json, baselines.json and
evaluation-*.json. A part that is missing is left out. Pictures are inside the page, and beside it as PNG.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.errors import AlbertError
from albert_jax.telemetry.page import image, render_page, section, table
from albert_jax.telemetry.progress import format_count, format_seconds
from albert_jax.telemetry.records import BASELINES, METRICS, read_evaluation, read_metrics, write_atomically

_AVERAGES = ("accuracy", "micro avg", "macro avg", "weighted avg", "samples avg")


def write_report(workdir: str | Path) -> Path:
    """Writes report/index.html and its PNGs and returns the path of the page.

    An evaluation-*.json holds {"split", "step", "scores": {name: value}} and, for a classification,
    "labels": [C names], "confusion": [C][C] counts (rows true, columns predicted) and "report": what
    scikit-learn's `classification_report` gives, as a dict or as text; without it the table is computed
    from the confusion matrix.

    Raises:
        AlbertError: the workdir is missing or the report cannot be written, or a file in it is not the JSON
            that it should be.
    """
    # matplotlib takes a quarter of a second to import: only who draws waits for it.
    from albert_jax.telemetry.charts import CURVES, draw_confusion, draw_curve

    workdir = Path(workdir)
    if not workdir.is_dir():
        raise AlbertError(f"{workdir}: no such workdir; pass the directory that `train` wrote")
    records = read_metrics(workdir)
    experiment = _read(workdir / "experiment.json")
    baselines = {"order_chance": 0.5, **_read(workdir / BASELINES)}
    evaluations = [(path, read_evaluation(path)) for path in sorted(workdir.glob("evaluation-*.json"))]
    directory = workdir / "report"
    try:
        directory.mkdir(exist_ok=True)
        for stale in directory.glob("*.png"):
            stale.unlink()
        curves = [
            (curve.title, directory / curve.file)
            for curve in CURVES
            if draw_curve(curve, records, baselines, directory / curve.file)
        ]
        parts = [_headline(records, baselines, evaluations), _events(records)]
        parts.append(section("Curves", "<div class=grid>" + "".join(image(*curve) for curve in curves) + "</div>"))
        for path, evaluation in evaluations:
            picture = None
            if _has_confusion(evaluation):
                picture = directory / f"confusion-{path.stem.removeprefix('evaluation-')}.png"
                draw_confusion(evaluation["labels"], np.asarray(evaluation["confusion"]), picture)
            parts.append(_evaluation(path, evaluation, picture))
        parts.append(_configuration(experiment))
    except OSError as error:
        raise AlbertError(f"{directory}: cannot be written ({error.strerror}); free space or fix its rights") from error
    if not curves:
        absent = html.escape(str(workdir / METRICS))
        parts.insert(1, f"<p class=note>No curves: {absent} is absent or holds no scalars yet.</p>")
    page = directory / "index.html"
    write_atomically(page, render_page(str(workdir.resolve().name), "".join(parts)))
    return page


# ------------------------------------------------------------------------------------------ the parts


def _headline(
    records: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, float],
    evaluations: Sequence[tuple[Path, Mapping[str, Any]]],
) -> str:
    """Tiles with the last held-out scores (test over validation over training) and the speed."""
    tiles = []
    held_out = _last(records, "validation") or _last(records, "train")
    scores = {**held_out, **_last(records, "test")}
    source = "test" if _last(records, "test") else "validation" if _last(records, "validation") else "training"
    for _, evaluation in evaluations:
        if evaluation.get("split") in ("validation", "test"):
            scores |= {name: value for name, value in evaluation.get("scores", {}).items() if _is_finite(value)}
            source = evaluation["split"]
    rows = (
        ("mlm_accuracy", "MLM accuracy", "unigram_accuracy", "unigram"),
        ("order_accuracy", "order accuracy", "order_chance", "chance"),
        ("accuracy", "accuracy", "majority_accuracy", "majority class"),
        ("f1", "entity F1", "", ""),
        ("f1_micro", "micro F1", "", ""),
        ("f1_macro", "macro F1", "", ""),
        ("pearson", "Pearson", "", ""),
        ("loss", "loss", "", ""),
    )
    for name, label, baseline, against in rows:
        value = scores.get(name)
        if not _is_finite(value):
            continue
        share = name.endswith("accuracy")
        detail = f"{source}; {against} {baselines[baseline]:.1%}" if baseline in baselines else source
        tiles.append((f"{value:.1%}" if share else f"{value:.3f}", label, detail))
    train = [record for record in records if record["kind"] == "train"]
    if train:
        seconds = [record["seconds"] for record in train if _is_finite(record.get("seconds"))]
        detail = f"in {format_seconds(seconds[-1])}" if seconds else "taken"
        tiles.append((f"{train[-1]['step']:,}", "steps", detail))
    speeds = [record["tokens_per_second"] for record in train if _is_finite(record.get("tokens_per_second"))]
    if speeds:
        shares = [record["peak_share"] for record in train if _is_finite(record.get("peak_share"))]
        rates = [r["model_flops_per_second"] for r in train if _is_finite(r.get("model_flops_per_second"))]
        detail = f"median; {format_count(float(np.median(rates)))}FLOP/s of the model" if rates else "median"
        tiles.append((format_count(float(np.median(speeds))), "tokens/s", detail))
        mfu = f"{np.median(shares):.0%}" if shares else "unknown device"
        tiles.append((mfu, "MFU", "median share of the matmul peak"))
        waits = [record["data_wait_share"] for record in train if _is_finite(record.get("data_wait_share"))]
        if waits:
            tiles.append((f"{np.median(waits):.1%}", "data wait", f"median share of a step; at most {max(waits):.0%}"))
    return (
        "<div class=tiles>"
        + "".join(
            f"<div class=tile><b>{html.escape(value)}</b><span>{html.escape(label)}</span>"
            f"<small>{html.escape(detail)}</small></div>"
            for value, label, detail in tiles
        )
        + "</div>"
    )


def _events(records: Sequence[Mapping[str, Any]]) -> str:
    events = [record for record in records if record["kind"] == "event"]
    if not events:
        return ""
    rows = "".join(
        f"<li{' class=alarm' if 'collapse watch' in str(event.get('text')) else ''}>"
        f"<span class=step>step {event['step']:,}</span> {html.escape(str(event.get('text', '')))}</li>"
        for event in events[-50:]
    )
    more = f"<p class=note>The last 50 of {len(events)}.</p>" if len(events) > 50 else ""
    return section("Events", f"{more}<ul class=events>{rows}</ul>")


def _evaluation(path: Path, evaluation: Mapping[str, Any], picture: Path | None) -> str:
    split = evaluation.get("split", path.stem.removeprefix("evaluation-"))
    step = f", step {evaluation['step']:,}" if isinstance(evaluation.get("step"), int) else ""
    body = []
    scores = [(name.replace("_", " "), _number(value)) for name, value in evaluation.get("scores", {}).items()]
    if scores:
        body.append(table(("score", "value"), scores))
    report = evaluation.get("report")
    if isinstance(report, str):
        body.append(f"<pre>{html.escape(report)}</pre>")
    elif report:
        body.append(_classification(report))
    elif _has_confusion(evaluation):
        body.append(_classification(report_of(evaluation["labels"], np.asarray(evaluation["confusion"]))))
    if entities := evaluation.get("entities"):
        body.append(_classification(entities, "entity"))
    body += [f"<p class=note>{html.escape(note)}</p>" for note in evaluation.get("notes", ())]
    if picture:
        body.append(image("Confusion matrix", picture, "wide"))
    return section(f"Evaluation on {split}{step}", "".join(body))


def _classification(report: Mapping[str, Any], rows_are: str = "class") -> str:
    """The table of scikit-learn's (or seqeval's) `classification_report(output_dict=True)`. Where every example has one
    label that dict has "accuracy" in the place of "micro avg": they are the same number."""
    classes = [name for name in report if name not in _AVERAGES]
    total = next((row["support"] for name in ("weighted avg", "macro avg") if (row := report.get(name))), None)
    rows = []
    for name in [*classes, *(name for name in _AVERAGES if name in report)]:
        row = report[name]
        if not isinstance(row, Mapping):
            name, row = "micro avg (= accuracy)", dict.fromkeys(("precision", "recall", "f1-score"), row)
            row["support"] = total
        support = "" if row.get("support") is None else f"{int(row['support']):,}"
        rows.append((name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1-score")), support))
    return table((rows_are, "precision", "recall", "F1", "support"), rows, rule_before=len(classes))


def report_of(labels: Sequence[str], confusion: np.ndarray) -> dict[str, Any]:
    """What `sklearn.metrics.classification_report(output_dict=True, zero_division=0)` gives, computed from
    the confusion matrix [C, C] (rows true, columns predicted)."""
    right = np.diag(confusion).astype(float)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = np.divide(right, predicted, out=np.zeros(len(labels)), where=predicted > 0)
    recall = np.divide(right, support, out=np.zeros(len(labels)), where=support > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(len(labels)), where=both > 0)
    columns = {"precision": precision, "recall": recall, "f1-score": f1}
    report: dict[str, Any] = {
        label: {**{key: float(column[row]) for key, column in columns.items()}, "support": int(support[row])}
        for row, label in enumerate(labels)
    }
    total = int(support.sum())
    report["accuracy"] = float(right.sum() / max(total, 1))
    weights = support / max(total, 1)
    for name, weight in (("macro avg", np.full(len(labels), 1 / len(labels))), ("weighted avg", weights)):
        report[name] = {key: float(column @ weight) for key, column in columns.items()} | {"support": total}
    return report


def _configuration(experiment: Mapping[str, Any]) -> str:
    if not experiment:
        return ""
    plain = [(name, value) for name, value in experiment.items() if not isinstance(value, Mapping)]
    nested = [(name, value) for name, value in experiment.items() if isinstance(value, Mapping)]
    groups = ([("experiment", dict(plain))] if plain else []) + nested
    cards = "".join(
        f"<div class=card><h3>{html.escape(name)}</h3>{table((), list(_flatten(values)))}</div>"
        for name, values in groups
    )
    return section("Configuration", f"<div class=cards>{cards}</div>")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flatten(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows


# ------------------------------------------------------------------------------------------ small things


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AlbertError(f"{path}: not valid JSON ({error}); delete it and run the command that wrote it") from None
    if not isinstance(value, dict):
        raise AlbertError(f"{path}: a JSON object is needed, this is a {type(value).__name__}")
    return value


def _has_confusion(evaluation: Mapping[str, Any]) -> bool:
    return bool(evaluation.get("labels")) and bool(evaluation.get("confusion"))


def _last(records: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    return next((dict(record) for record in reversed(records) if record["kind"] == kind), {})


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
