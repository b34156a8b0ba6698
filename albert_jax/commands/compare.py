"""One table of the test scores of several workdirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from albert_jax.errors import AlbertError
from albert_jax.telemetry.records import read_evaluation
from albert_jax.telemetry.tables import print_table


@dataclass(frozen=True)
class Options:
    """One table of the test scores of several workdirs, seeds of a run side by side."""

    # directories that evaluate has scored
    workdir: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR ...")]
    split: str = "test"  # train, validation or test


def run(options: Options) -> int:
    if not options.workdir:
        raise AlbertError("compare needs workdirs that evaluate has scored; see albert_jax compare --help")
    compare(options.workdir, options.split)
    return 0


def compare(workdirs: Sequence[str | Path], split: str = "test") -> list[tuple[str, str, Any, Any, Any, int, Any, Any]]:
    """Prints median, least and greatest of every score over the runs that share an experiment's name, how many of them
    are degenerate (every prediction the same) and the baseline; returns the rows (experiment, score, median, least,
    greatest, runs, degenerate, baseline).

    Raises AlbertError for a workdir that has not been evaluated on `split`, a damaged file, or one name for two tasks.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for workdir in workdirs:
        path = Path(workdir) / f"evaluation-{split}.json"
        if not path.is_file():
            raise AlbertError(f"{path} is missing; run: albert_jax evaluate --workdir {workdir} --split {split}")
        record = read_evaluation(path)
        runs = groups.setdefault(record.get("experiment", str(workdir)), [])
        if runs and runs[0]["scores"].keys() != record["scores"].keys():
            raise AlbertError(
                f"{workdir} has the name {record['experiment']!r} of another run, and other scores "
                f"({', '.join(record['scores'])}; not {', '.join(runs[0]['scores'])}); train one under another --name"
            )
        runs.append(record)
    rows: list[Any] = []
    for name, records in groups.items():
        known = [record["degenerate"] for record in records if record.get("degenerate") is not None]
        degenerate = sum(known) if known else None
        for score in records[0]["scores"]:
            values = [record["scores"][score] for record in records if record["scores"][score] is not None]
            middle = (float(np.median(values)), min(values), max(values)) if values else (None, None, None)
            baseline = _baseline(score, records[0].get("baselines", {}))
            rows.append((name, score, *middle, len(records), degenerate, baseline))
    print_table(
        f"{split} split, median over the runs of an experiment",
        ("experiment", "score", "median", "least", "greatest", "runs", "degenerate", "baseline"),
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


def print_evaluation(title: str, evaluation: Any) -> None:
    """Prints an `Evaluation`: scores; precision, recall, F1 and support of each class and averaged as scikit-learn
    reports them, of each entity type as seqeval does; what it notes."""
    print_table(title, ("score", "value"), list(evaluation.scores.items()))
    for name, report in (
        ("class" if not evaluation.entities else "tag", evaluation.report),
        ("entity", evaluation.entities),
    ):
        if report:
            print_table("", (name, "precision", "recall", "f1-score", "support"), report_rows(report))
    for note in evaluation.notes:
        print(note)


def report_rows(report: Mapping[str, Any]) -> list[tuple[str, float, float, float, int]]:
    """The rows of a table of scikit-learn's or seqeval's report. Where every example has one class, scikit-learn has
    "accuracy" in the place of "micro avg": they are the same number."""
    total = int(report["weighted avg"]["support"])
    rows = []
    for name, row in report.items():
        if isinstance(row, Mapping):
            rows.append((name, row["precision"], row["recall"], row["f1-score"], int(row["support"])))
        else:
            rows.append(("micro avg (= accuracy)", row, row, row, total))
    return rows
