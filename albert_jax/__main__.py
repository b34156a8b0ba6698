"""python -m albert_jax VERB: the command line. Each verb imports what it needs, so that none waits for another's."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax import __version__
from albert_jax.errors import AlbertError

# ---- verbs: each takes its words and returns an exit code


def prepare(args: Sequence[str]) -> int:
    """tokenise a corpus once, into a document store with a vocabulary"""
    from albert_jax.data import prepare

    return prepare.main(list(args))


def _experiment(verb: str, args: Sequence[str], options: dict[str, dict[str, Any]]) -> tuple[Any, argparse.Namespace]:
    """The experiment that --config or a workdir names with the command line's changes, and the verb's own options."""
    from albert_jax import experiment as experiments
    from albert_jax.cli import parse

    first = argparse.ArgumentParser(
        prog=f"albert_jax {verb}",
        add_help=False,
        allow_abbrev=False,
        usage=f"albert_jax {verb} --config configs/NAME.py --workdir DIR [--any.field.path VALUE ...]",
        description="Give --workdir alone to continue a run. A finished one says that it is done.",
    )
    first.add_argument("--config", help="file whose experiment() is run")
    first.add_argument("--workdir", help="directory for checkpoints, metrics and the report; continued if it has some")
    for name, option in options.items():
        first.add_argument(name, **option)
    known, rest = first.parse_known_args(list(args))
    helping = bool({"-h", "--help"} & set(rest))
    if helping:
        first.print_help()
        print("\nEvery field of the experiment, with the config's value as default:\n")
    elif not known.workdir:
        raise AlbertError(f"{verb} needs --workdir DIR; see albert_jax {verb} --help")
    if known.config:
        default = experiments.load_config(known.config)
    elif helping and not known.workdir:
        default = experiments.example()
    elif not (Path(known.workdir) / experiments.FILE).exists():
        raise AlbertError(f"{known.workdir} holds no run to continue; give --config configs/NAME.py to start one")
    else:
        default = experiments.read(known.workdir)
    return parse(experiments.Experiment, rest, prog=f"albert_jax {verb}", default=default), known


def train(args: Sequence[str]) -> int:
    """pretrain or fine-tune: run a config in a workdir, or continue one"""
    experiment, known = _experiment("train", args, {})
    _set_up_jax()
    from albert_jax.train import train

    train(experiment, known.workdir)
    return 0


def seeds(args: Sequence[str]) -> int:
    """train and score a config under several seeds: median, least and greatest"""
    options: dict[str, dict[str, Any]] = {
        "--n": dict(type=int, default=3, help="seeds to run (default: 3)"),
        "--split": dict(default="test", help="split to score: train, validation or test (default: test)"),
    }
    experiment, known = _experiment("seeds", args, options)
    _set_up_jax()
    from albert_jax.seeds import seeds

    seeds(experiment, known.workdir, known.n, known.split)
    return 0


@dataclass(frozen=True)
class EvaluateArgs:
    """Score a workdir's checkpoint on a split; writes evaluation-SPLIT.json and predictions-SPLIT.jsonl there."""

    workdir: str  # directory of a train run
    split: str = "test"  # train, validation or test
    checkpoint: str = "best"  # best, latest or a step
    data: str = ""  # prepared directory, should it have moved since the run


def evaluate(args: Sequence[str]) -> int:
    """score a checkpoint on a held-out split"""
    from albert_jax.cli import parse

    asked = parse(EvaluateArgs, args, prog="albert_jax evaluate")
    _set_up_jax()
    from albert_jax.compare import print_evaluation
    from albert_jax.evaluate import evaluate
    from albert_jax.report import write_report

    evaluation = evaluate(asked.workdir, asked.split, asked.checkpoint, asked.data)
    print_evaluation(f"{asked.workdir}, {asked.split} split", evaluation.scores, evaluation.report)
    print(f"report: {write_report(asked.workdir)}")
    return 0


def inspect(args: Sequence[str]) -> int:
    """tell what a workdir, prepared corpus or vocabulary holds"""
    from albert_jax.inspect import describe

    parser = argparse.ArgumentParser(prog="albert_jax inspect", description="Tell what a path holds.")
    parser.add_argument("path", help="workdir, checkpoint directory, prepared directory, vocabulary or .model file")
    print(describe(parser.parse_args(list(args)).path))
    return 0


def bench(args: Sequence[str]) -> int:
    """tokens/s of a training step, and its share of the machine's matmul peak"""
    from albert_jax.cli import parse

    _set_up_jax()
    from albert_jax.bench import BenchConfig, bench

    bench(parse(BenchConfig, args, prog="albert_jax bench", default=BenchConfig()))
    return 0


def compare(args: Sequence[str]) -> int:
    """one table of the test scores of several workdirs, seeds of a run side by side"""
    from albert_jax.compare import compare

    parser = argparse.ArgumentParser(prog="albert_jax compare", description=compare.__doc__)
    parser.add_argument("workdir", nargs="+", help="directories that evaluate has scored")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    asked = parser.parse_args(list(args))
    compare(asked.workdir, asked.split)
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    verb.__name__: verb for verb in (prepare, train, evaluate, seeds, compare, inspect, bench)
}

# ---- the rest


def _set_up_jax() -> None:
    """Memory kept between steps, and a cache of compiled programs that outlives the process, unless
    JAX_COMPILATION_CACHE_DIR says otherwise."""
    import jax

    from albert_jax.host_memory import keep_freed_memory

    keep_freed_memory()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "albert_jax" / "compiled"))


def _usage() -> str:
    lines = [f"  {name:9} {verb.__doc__}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            f"albert_jax {__version__}: python -m albert_jax VERB ...",
            "",
            *lines,
            "",
            "VERB --help tells every field.",
        ]
    )


def main(words: Sequence[str] | None = None) -> int:
    """Runs one verb. 0: done; 2: bad input, told in one line; 143: stopped by a signal, to be continued."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(__version__)
        return 0
    try:
        if words[0] not in VERBS:
            import difflib

            near = difflib.get_close_matches(words[0], VERBS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AlbertError(f"there is no verb {words[0]!r}{hint} The verbs are {', '.join(VERBS)}")
        return VERBS[words[0]](words[1:])
    except AlbertError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EPERM):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"error: {error.strerror}{where}; what was finished is kept: make room or fix permissions and run again",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
