"""The verb prepare; the work is `albert_jax.data.corpus.prepare`."""

import dataclasses
import sys
from pathlib import Path

from albert_jax.data.corpus.config import PrepareConfig as Options
from albert_jax.data.corpus.prepare import prepare
from albert_jax.interop import box


def run(options: Options) -> int:
    if options.vocab and box.is_name(options.vocab) and not Path(options.vocab).exists():
        options = dataclasses.replace(options, vocab=str(box.directory(options.vocab)))
    summary = prepare(options, show_progress=sys.stderr.isatty())
    print(summary.text())
    return 0
