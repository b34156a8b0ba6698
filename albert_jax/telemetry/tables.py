"""Result tables on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 160  # columns when the output is a file or a pipe: rich would assume 80 and cut cells


def print_table(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]], console: Console | None = None
) -> None:
    """Prints `rows` under `headers`: floats with four decimals, None as a dash, numbers to the right.

    >>> print_table("demo", ("score", "value", "baseline"), [("MLM accuracy", 0.3127, 0.047)])
    """
    console = console or terminal()
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, title_style="bold", title_justify="left")
    for column, header in enumerate(headers):
        cells = [row[column] for row in rows if column < len(row)]
        numeric = any(_is_number(cell) for cell in cells)
        numeric &= all(cell is None or _is_number(cell) for cell in cells)
        table.add_column(Text(header), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))  # Text: a "[MASK]" is no markup
    console.print(table)


def format_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> str:
    """The same table as plain text, for files and log records."""
    console = Console(width=_PLAIN_WIDTH, force_terminal=False, no_color=True, file=None)
    with console.capture() as captured:
        print_table(title, headers, rows, console)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")


def terminal() -> Console:
    """A console on stdout that is wide when stdout is not a terminal."""
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal and not console.is_jupyter:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    return console


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
