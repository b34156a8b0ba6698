"""Tables and numbers as people read them on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns when the output is a file or a pipe: rich would assume 80 and cut cells, so that a log lost the end of names.
_PLAIN_WIDTH = 160


def print_table(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]], console: Console | None = None
) -> None:
    """Prints `rows` under `headers`: floats with four decimals, None as a dash, numbers to the right."""
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, title_style="bold", title_justify="left")
    for column, header in enumerate(headers):
        cells = [row[column] for row in rows if column < len(row) and row[column] is not None]
        numeric = bool(cells) and all(_is_number(cell) for cell in cells)
        table.add_column(Text(header), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))  # Text: a "[MASK]" is no markup
    (console or terminal()).print(table)


def format_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> str:
    """The same table as plain text, for files and log records."""
    console = Console(width=_PLAIN_WIDTH, force_terminal=False, no_color=True, file=None)
    with console.capture() as captured:
        print_table(title, headers, rows, console)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")


def report_rows(report: Mapping[str, Any]) -> list[tuple[str, float, float, float, int]]:
    """(class or average, precision, recall, F1, support) of a `classification_report` as a dict, scikit-learn's or
    seqeval's."""
    rows = []
    for name, row in report.items():
        if isinstance(row, Mapping):
            rows.append((name, row["precision"], row["recall"], row["f1-score"], int(row["support"])))
        else:
            # Where every example has one class, scikit-learn gives "accuracy" as a number instead of "micro avg":
            # the two are the same.
            rows.append(("micro avg (= accuracy)", row, row, row, int(report["weighted avg"]["support"])))
    return rows


def confused_pairs(labels: Sequence[str], confusion: Any, count: int) -> list[tuple[str, str, int, float]]:
    """The `count` pairs of classes that are mistaken for each other most often: (true, predicted, examples, their share
    of the true class), from a matrix [C, C] of counts, rows true.

    >>> confused_pairs(["a", "b"], [[5, 0], [3, 1]], 10)
    [('b', 'a', 3, 0.75)]
    """
    rows = [list(map(int, row)) for row in confusion]
    pairs = [
        (labels[i], labels[j], n, n / sum(row)) for i, row in enumerate(rows) for j, n in enumerate(row) if i != j and n
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], -pair[3]))[:count]


def mistake_rows(mistakes: Sequence[Mapping[str, Any]], width: int = 0) -> list[tuple[str, str, str, str]]:
    """(text, gold, predicted, probability or error) of what `OpenTask.mistakes` gives; texts cut to `width` characters,
    0 for whole."""
    return [
        (
            _cut(each["text"], width),
            each["gold"],
            each["predicted"],
            f"{each.get('probability', each.get('error')):.4g}",
        )
        for each in mistakes
    ]


def certainty(mistakes: Sequence[Mapping[str, Any]]) -> str:
    """What the last column of `mistake_rows` is."""
    return "error" if mistakes and "error" in mistakes[0] else "probability"


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if not width or len(line) <= width else line[: width - 1] + "…"


def terminal() -> Console:
    """A console on stdout that is wide when stdout is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal or console.is_jupyter else Console(highlight=False, width=_PLAIN_WIDTH)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if _is_number(value) else str(value)


def format_count(value: float) -> str:
    """830, 15.2k, 3.1M: three figures at most, for reading at a glance."""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            scaled = value / limit
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}"


def format_seconds(seconds: float) -> str:
    """0:07, 12:34, 3:04:05 or "2d 3h" from two days on."""
    whole = round(seconds)
    if whole >= 2 * 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600}h"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
