"""The one exception that a user is meant to read."""


class AlbertError(Exception):
    """Bad input, told in one line: what is wrong (file, line, field or tensor) and what to do about it.

    `python -m albert_jax` prints the message after "error: " and exits with status 2; any other
    exception is a bug of ours and keeps its traceback.
    """
