"""Evaluations as tables on the terminal: one of the scores of several workdirs, and those of a single evaluation."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from albert_jax.errors import AlbertError
from albert_jax.telemetry.baselines import verdict
from albert_jax.telemetry.records import read_evaluation
from albert_jax.telemetry.scores import of_name
from albert_jax.telemetry.tables import certainty, confused_pairs, mistake_rows, print_table, report_rows

_SHOWN = 5  # mistakes, and pairs of classes, that evaluate prints


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

    Below it stands a line for each experiment whose median does not beat the best baseline, by the score that ranks it.

    Raises AlbertError for a workdir that has not been evaluated on `split`, a damaged file, or one name for two tasks.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for workdir in workdirs:
        path = Path(workdir) / f"evaluation-{split}.json"
        if not path.is_file():
            raise AlbertError(f"{path} is missing; run: albert_jax evaluate --workdir {workdir} --split {split}")
        record = read_evaluation(path)
        runs = groups[record.get("experiment", str(workdir))]
        if runs and runs[0]["scores"].keys() != record["scores"].keys():
            raise AlbertError(
                f"{workdir} has the name {record['experiment']!r} of another run, and other scores "
                f"({', '.join(record['scores'])}; not {', '.join(runs[0]['scores'])}); train one under another --name"
            )
        runs.append(record)

    rows: list[Any] = []
    names: list[str | None] = []  # of the baselines, a row each
    verdicts: list[str] = []
    for name, records in groups.items():
        known = [record["degenerate"] for record in records if record.get("degenerate") is not None]
        degenerate = sum(known) if known else None
        for score in records[0]["scores"]:
            values = [record["scores"][score] for record in records if record["scores"][score] is not None]
            # The median, not the mean: one degenerate run among five must not hide what the other four reach.
            middle = (float(np.median(values)), min(values), max(values)) if values else (None, None, None)
            # Runs of one name share their data, so the first run's baseline is that of all.
            known_score = of_name(score, records[0].get("baselines"))
            rows.append((name, score, *middle, len(records), degenerate, known_score.baseline))
            names.append(records[0].get("against", {}).get(score))
            ranking, higher_is_better = records[0].get("ranking", ("", True))
            if score == ranking:
                judged = dataclasses.replace(known_score, higher_is_better=higher_is_better, against=names[-1] or "")
                verdicts += [f"{name}: {line}" for line in [verdict(judged, middle[0])] if line]
    headers = ("experiment", "score", "median", "least", "greatest", "runs", "degenerate", "baseline")
    # Evaluations from before the baselines had names have no column for them.
    shown = [(*row, name) for row, name in zip(rows, names, strict=True)] if any(names) else rows
    print_table(f"{split} split, median over the runs of an experiment", (*headers, "which")[: len(shown[0])], shown)
    for line in verdicts:
        print(line)
    return rows


def print_evaluation(title: str, evaluation: Any) -> None:
    """Prints an `Evaluation`: scores; precision, recall, F1 and support of each class and averaged as scikit-learn
    reports them, of each entity type as seqeval does; the pairs of classes that it confuses most, the mistakes that it
    is surest of; what it notes."""
    plain = evaluation.plain
    rows = [(name, value, *(each.scores.get(name) for each in plain)) for name, value in evaluation.scores.items()]
    print_table(title, ("score", "value", *(each.name for each in plain)), rows)
    for each in plain:
        if each.note:
            print(f"{each.name}: {each.note}")
    # A tagger is judged twice: by the tags of single words, and by whole entities.
    tables = {"tag" if evaluation.entities else "class": evaluation.report, "entity": evaluation.entities}
    for name, report in tables.items():
        if report:
            print_table("", (name, "precision", "recall", "f1-score", "support"), report_rows(report))
    pairs = confused_pairs(evaluation.labels, evaluation.confusion, _SHOWN)
    if pairs and len(evaluation.labels) > 2:
        print_table("most confused pairs", ("true", "predicted", "examples", "share of the true class"), pairs)
    if mistakes := evaluation.mistakes[:_SHOWN]:
        rows = [(surest, gold, guess, text) for text, gold, guess, surest in mistake_rows(mistakes, 80)]
        print_table("most confident mistakes", (certainty(mistakes), "gold", "predicted", "text"), rows)
    for note in (*evaluation.notes, *evaluation.verdicts):
        print(note)
