"""The command line's small print: tyro with one-line errors."""

import contextlib
import difflib
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from albert_jax.errors import AlbertError

T = TypeVar("T")


def parse(
    kind: type[T], args: Sequence[str], *, prog: str, default: T | None = None, description: str | None = None
) -> T:
    """`kind`, a dataclass, from command-line words; `--help` prints every field and exits.

    Raises AlbertError, one line, for an unknown field (nearest names given), a value of the wrong type, or a list of
    values whose flag stands twice.
    """
    printed = io.StringIO()
    options: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(printed):
            value = tyro.cli(
                kind,
                prog=prog,
                args=list(args),
                description=description,
                config=(tyro.conf.AvoidSubcommands,),
                **options,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise AlbertError(_first_complaint(kind, args, printed.getvalue(), default)) from None
    _check_lists(args, value)
    return value


def _check_lists(args: Sequence[str], value: Any) -> None:
    """Of a flag given twice the later one counts; of a list of files the first would be dropped without a word."""
    flags = Counter(word.split("=")[0].replace("_", "-") for word in args if word.startswith("--"))
    for flag in (flag for flag, count in flags.items() if count > 1):
        found = value
        for name in flag[2:].replace("-", "_").split("."):
            found = getattr(found, name, None)
        if isinstance(found, tuple):
            raise AlbertError(f"{flag} is given twice; give all its values after one: {flag} ONE OTHER")


def _first_complaint(kind: Any, args: Sequence[str], printed: str, default: Any) -> str:
    """tyro's boxed message in one line, with the nearest field names for a word that it does not know."""
    known = _flags(kind, default)
    for word in args:
        flag = word.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known and flag.replace("--no-", "--", 1) not in known:
            near = difflib.get_close_matches(flag, known, n=3, cutoff=0.5)
            hint = f"; nearest: {', '.join(near)}" if near else "; --help lists all fields"
            return f"there is no field {word.split('=')[0]}{hint}"
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    lines = [re.sub(r"^[│┃|]\s*|\s*[│┃|]$", "", line).strip() for line in text.splitlines()]
    words = [line for line in lines if line and not re.match(r"^([╭╰├─└┌┏┗━╌]|-+$)", line)]
    told = " ".join(itertools.takewhile(lambda line: not line.startswith("For full helptext"), words))
    return re.sub(r"\s+", " ", told).strip() or "the command line could not be read; see --help"


def _flags(kind: Any, default: Any) -> list[str]:
    """Every flag that tyro would offer, read off its own help."""
    printed = io.StringIO()
    options: dict[str, Any] = {} if default is None else {"default": default}
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], config=(tyro.conf.AvoidSubcommands,), **options)
    return sorted(set(re.findall(r"--[a-z][\w.-]*", printed.getvalue())))
