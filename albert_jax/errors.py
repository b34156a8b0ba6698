"""The one exception that a user is meant to read, and the three ways in which it is raised."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class AlbertError(Exception):
    """Bad input in one line: what is wrong (file, line, field or tensor) and what to do about it.

    `python -m albert_jax` prints the message after "error: " and exits with status 2; any other
    exception is a bug of ours and keeps its traceback.
    """


def refuse(complaints: Iterable[str]) -> None:
    """Raises AlbertError with the first of `complaints`; does nothing where there is none.

    A check is a generator of sentences in a function of its own, and the story calls it in one line:

        def _flaws(path: str, rows: int) -> Iterator[str]:
            if not rows:
                yield f"{path}: no rows in it; give one text a line"

        refuse(_flaws(path, rows))

    What stands after a `yield` may rely on its condition being false, since only the first sentence is ever asked for.
    """
    for complaint in complaints:
        raise AlbertError(complaint)


def extra(name: str) -> str:
    """How an optional dependency of this package is installed: from the repository, since no registry has it."""
    return f"pip install -e '.[{name}]'"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; that of the system for an OSError, the class's name where there is none."""
    message = getattr(error, "strerror", None) or str(error)
    return next(iter(str(message).strip().splitlines()), repr(error))


@contextmanager
def retold(message: Callable[[str], str], *kinds: type[BaseException]) -> Iterator[None]:
    """Within it, an exception of `kinds` becomes an AlbertError: `message` of the exception's first line.

        with retold(lambda said: f"{path}: not JSON ({said}); give one object a line", ValueError, RecursionError):
            record = json.loads(line)

    An AlbertError that is raised within passes as it is.
    """
    try:
        yield
    except AlbertError:
        raise
    except kinds as error:
        raise AlbertError(message(first_line(error))) from error
