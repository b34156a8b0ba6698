"""The verb prepare; the work is `albert_jax.data.corpus.prepare`."""

import sys

from albert_jax.data.corpus.config import PrepareConfig as Options
from albert_jax.data.corpus.prepare import prepare


def run(options: Options) -> int:
    summary = prepare(options, show_progress=sys.stderr.isatty())
    print(summary.text())
    return 0
