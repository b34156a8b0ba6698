"""python -m albert_jax VERB: the command line.

A verb is a file of `albert_jax.commands`: its Options, a dataclass whose fields are the options and whose comments are
their help, and run(options), which returns the exit status. It is imported when it is called, so that no verb waits for
what another needs.
"""

import difflib
import errno
import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence

from albert_jax import __version__
from albert_jax.errors import AlbertError, first_line

# Told here and not in the modules, so that the usage imports none of them.
VERBS = {
    "prepare": "tokenise a corpus once, into a document store with a vocabulary",
    "train": "pretrain or fine-tune: run a config in a workdir, or continue one",
    "evaluate": "score a checkpoint on a held-out split",
    "predict": "labels, values or tagged spans for the texts of a file or a pipe, as JSON lines",
    "seeds": "train and score a config under several seeds: median, least and greatest",
    "search": "try values of a config's fields and keep what scores best (needs Optuna)",
    "compare": "one table of the test scores of several workdirs, seeds of a run side by side",
    "inspect": "tell what a workdir, prepared corpus or vocabulary holds",
    "bench": "tokens/s of a training step, and its share of the machine's matmul peak",
    "plan": "whether a training step fits on a TPU slice that is not here, and how fast it can be",
    "convert": "a checkpoint of Google's, Hugging Face's or ours into one of the others",
    "heads": "which number of attention heads a model was trained with, by its MLM accuracy on a text",
}


def main(words: Sequence[str] | None = None) -> int:
    """Runs one verb. Returns the exit status: 0: done; 2: bad input, or too little memory or disk, told in one line;
    130: stopped by Ctrl-C; 141: the reader of a pipe has gone. `train` exits with 143 when a signal stops it."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(__version__)
        return 0
    # Without the line of code that gave it, which says nothing to a user.
    warnings.formatwarning = lambda message, *where: f"warning: {message}\n"
    try:
        return _run(words[0], words[1:])
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2


def _run(verb: str, words: Sequence[str]) -> int:
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise AlbertError(f"there is no verb {verb!r}{hint} The verbs are {', '.join(VERBS)}")
    from albert_jax.commands.args import ExperimentOptions, parse, parse_experiment

    module = importlib.import_module(f"albert_jax.commands.{verb}")
    if issubclass(module.Options, ExperimentOptions):
        return module.run(*parse_experiment(module.Options, words, verb))
    return module.run(parse(module.Options, words, prog=f"albert_jax {verb}"))


def _message(error: Exception) -> str | None:
    """The line for an error that a user can do something about; None for a bug of ours, which keeps its traceback."""
    if isinstance(error, AlbertError):
        # Names of files may hold line ends.
        return " ".join(str(error).splitlines())
    # JAX's error of a full memory is a RuntimeError.
    full = isinstance(error, RuntimeError) and re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(error))
    if full or isinstance(error, MemoryError):
        advice = "a smaller batch needs less, and in training --micro-batches and --model.remat, which change no result"
        return f"the memory is too small ({first_line(error)}); {advice}"
    disk = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EPERM)
    if isinstance(error, OSError) and error.errno in disk:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}; what was finished is kept: make room or fix permissions and run again"
    return None


def _usage() -> str:
    verbs = "\n".join(f"  {verb:9} {summary}" for verb, summary in VERBS.items())
    return f"albert_jax {__version__}: python -m albert_jax VERB ...\n\n{verbs}\n\nVERB --help tells every field."


if __name__ == "__main__":
    sys.exit(main())
