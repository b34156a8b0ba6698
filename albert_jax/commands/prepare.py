"""The verb prepare."""

import sys
from collections.abc import Sequence

from albert_jax.commands.args import parse
from albert_jax.data.corpus.config import PrepareConfig
from albert_jax.data.corpus.prepare import prepare


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: `arguments` without the verb. Returns the exit status; AlbertError is the
    caller's."""
    words = sys.argv[1:] if arguments is None else arguments
    config = parse(PrepareConfig, words, prog="albert_jax prepare")
    summary = prepare(config, show_progress=sys.stderr.isatty())
    print(summary.text())
    return 0
