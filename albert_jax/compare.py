"""One table of the test scores of several workdirs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.errors import AlbertError
from albert_jax.summary import print_table


def compare(workdirs: Sequence[str | Path], split: str = "test") -> list[tuple[str, str, Any, Any, Any, int]]:
    """Prints median, least and greatest of every score over the runs that share an experiment's name, beside its
    baseline; returns the rows (experiment, score, median, least, greatest, runs, baseline).

    Raises AlbertError for a workdir that has not been evaluated on `split`.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for workdir in workdirs:
        path = Path(workdir) / f"evaluation-{split}.json"
        if not path.is_file():
            raise AlbertError(f"{path} is missing; run: albert_jax evaluate --workdir {workdir} --split {split}")
        record = json.loads(path.read_text(encoding="utf-8"))
        groups.setdefault(record["experiment"], []).append(record)
    rows: list[Any] = []
    for name, records in groups.items():
        for score in records[0]["scores"]:
            values = [record["scores"][score] for record in records]
            baseline = _baseline(score, records[0]["baselines"])
            rows.append((name, score, float(np.median(values)), min(values), max(values), len(values), baseline))
    print_table(
        f"{split} split, median over the runs of an experiment",
        ("experiment", "score", "median", "least", "greatest", "runs", "baseline"),
        rows,
    )
    return rows


def _baseline(score: str, known: dict[str, float]) -> float | None:
    """What a model that looks at nothing gets."""
    names = {
        "mlm_accuracy": "unigram_accuracy",
        "mlm_loss": "unigram_entropy",
        "accuracy": "majority_accuracy",
    }
    return 0.5 if score == "order_accuracy" else known.get(names.get(score, ""))


def print_evaluation(title: str, scores: dict[str, float], report: dict[str, Any]) -> None:
    """Prints the scores and, for classes, precision, recall, F1 and support as scikit-learn reports them."""
    print_table(title, ("score", "value"), list(scores.items()))
    rows = [
        (name, row["precision"], row["recall"], row["f1-score"], int(row["support"]))
        for name, row in report.items()
        if isinstance(row, dict)
    ]
    if rows:
        print_table("", ("class", "precision", "recall", "f1-score", "support"), rows)
