"""python -m albert_jax VERB: the command line. Each verb imports what it needs, so that none waits for another's."""

import argparse
import errno
import glob
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from albert_jax import __version__
from albert_jax.errors import AlbertError


class _Parser(argparse.ArgumentParser):
    """One that tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise AlbertError(f"{message}; see {self.prog} --help")


# ---- verbs: each takes its words and returns an exit code


def prepare(args: Sequence[str]) -> int:
    """tokenise a corpus once, into a document store with a vocabulary"""
    from albert_jax.commands.prepare import main

    return main(args)


_AGAIN = "The same command again goes on where it stopped."


def _experiment(
    verb: str, args: Sequence[str], options: dict[str, dict[str, Any]], writes: bool = True
) -> tuple[Any, argparse.Namespace]:
    """The experiment that --config or a workdir names with the command line's changes, and the verb's own options.
    A verb that `writes` needs a workdir."""
    from albert_jax import experiment as experiments
    from albert_jax.cluster import workdirs
    from albert_jax.commands.args import parse

    alone = verb == "train"  # seeds and search hold many runs: the same command goes on with them
    said = "Give --workdir alone to continue a run. A finished one says that it is done." if alone else _AGAIN
    first = _Parser(
        prog=f"albert_jax {verb}",
        add_help=False,
        allow_abbrev=False,
        usage=f"albert_jax {verb} --config configs/NAME.py {'--workdir DIR ' * writes}[--any.field.path VALUE ...]",
        description=said if writes else None,
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
    elif not known.workdir and (writes or not known.config):
        needed = "--workdir DIR" if writes else "--config configs/NAME.py"
        raise AlbertError(f"{verb} needs {needed}; see albert_jax {verb} --help")
    elif writes and not alone and not known.config:
        raise AlbertError(f"{verb} needs --config configs/NAME.py. {_AGAIN}")
    if known.config:
        default = experiments.load_config(known.config)
    elif helping and not known.workdir:
        default = experiments.example()
    elif not (workdirs.local_dir(known.workdir) / experiments.FILE).exists():
        raise AlbertError(f"{known.workdir} holds no run to continue; give --config configs/NAME.py to start one")
    else:
        default = experiments.read(known.workdir)
    return parse(experiments.Experiment, rest, prog=f"albert_jax {verb}", default=default), known


_PROCESSES: dict[str, dict[str, Any]] = {
    "--processes.coordinator": dict(default="", metavar="HOST:PORT", help="of process 0; TPUs, SLURM, MPI need none"),
    "--processes.count": dict(type=int, default=0, help="processes of the run; 1 = alone, whatever the machine says"),
    "--processes.index": dict(type=int, default=-1, help="number of this process, from 0"),
    "--processes.timeout-s": dict(type=float, default=300.0, help="seconds until all must be there (default: 300)"),
}


def _joined(known: argparse.Namespace) -> Any:
    """This process as one of a run of several, or alone, as the words of `_PROCESSES` and the machine say."""
    from albert_jax.cluster.processes import ProcessConfig, joined

    given = {name: value for name, value in vars(known).items() if name.startswith("processes.")}
    return joined(ProcessConfig(**{name.removeprefix("processes."): value for name, value in given.items()}))


def train(args: Sequence[str]) -> int:
    """pretrain or fine-tune: run a config in a workdir, or continue one"""
    told = "tell what would run and where every parameter would live, and write nothing"
    experiment, known = _experiment("train", args, _PROCESSES | {"--dry-run": dict(action="store_true", help=told)})
    _set_up_jax()
    from albert_jax.train import dry_run, train

    with _joined(known) as first:
        if not known.dry_run:
            train(experiment, known.workdir)
        elif first:
            dry_run(experiment, known.workdir)
    return 0


def seeds(args: Sequence[str]) -> int:
    """train and score a config under several seeds: median, least and greatest"""
    options: dict[str, dict[str, Any]] = {
        "--n": dict(type=int, default=3, help="seeds to run (default: 3)"),
        "--split": dict(default="test", help="split to score: train, validation or test (default: test)"),
    }
    experiment, known = _experiment("seeds", args, options | _PROCESSES)
    _set_up_jax()
    from albert_jax.commands.seeds import seeds

    with _joined(known):
        seeds(experiment, known.workdir, known.n, known.split)
    return 0


def search(args: Sequence[str]) -> int:
    """try values of a config's fields and keep what scores best (needs Optuna)"""
    options: dict[str, dict[str, Any]] = {
        "--space": dict(help='fields and values: "optim.peak_lr=log(1e-5,1e-4) batch_size=[16,32] steps=int(100,500)"'),
        "--trials": dict(type=int, default=20, help="trials in all; the same command goes on to them (default: 20)"),
    }
    experiment, known = _experiment("search", args, options)
    if not known.space:
        raise AlbertError('search needs --space "FIELD=log(LOW,HIGH) ..."; see albert_jax search --help')
    _set_up_jax()
    from albert_jax.commands.search import search

    search(experiment, known.workdir, known.space, known.trials)
    return 0


def plan(args: Sequence[str]) -> int:
    """whether a training step fits on a TPU slice that is not here, and how fast it can be"""
    options: dict[str, dict[str, Any]] = {
        "--topology": dict(default="", help="slice to compile for, such as v5e-256 (default: the devices here)"),
        "--slices": dict(type=int, default=1, help="slices of it, joined by the data-centre network (default: 1)"),
        "--search": dict(action="store_true", help="try remat x micro-batches x mesh; the best that fit as a table"),
        "--search-limit": dict(type=int, default=24, help="compilations that the search may take (default: 24)"),
        "--params": dict(action="store_true", help="a line for each parameter: shape, spec, bytes a device"),
        "--json": dict(help="file for the plan; programs that it already holds are not compiled again"),
        "--png": dict(help="file for a picture: memory and time as bars"),
        "--hlo": dict(help="file for the compiled program's text"),
    }
    experiment, known = _experiment("plan", args, options, writes=False)
    from albert_jax.plan.report import main

    return main(experiment, known)


def evaluate(args: Sequence[str]) -> int:
    """score a checkpoint on a held-out split"""
    from albert_jax.cluster import workdirs
    from albert_jax.cluster.processes import ProcessConfig, joined
    from albert_jax.commands.args import parse

    @dataclass(frozen=True)
    class EvaluateArgs:
        """Score a workdir's checkpoint on a split; writes evaluation-SPLIT.json and predictions-SPLIT.jsonl there."""

        workdir: str  # directory of a train run
        split: str = "test"  # train, validation or test
        checkpoint: str = "best"  # best, latest or a step
        data: str = ""  # prepared directory, should it have moved since the run, or a labelled file for the split
        processes: ProcessConfig = field(default_factory=ProcessConfig)

    asked = parse(EvaluateArgs, args, prog="albert_jax evaluate")
    _set_up_jax()
    from albert_jax.commands.compare import print_evaluation
    from albert_jax.evaluate import evaluate
    from albert_jax.telemetry.report import write_report

    with joined(asked.processes) as first:
        workdir = workdirs.local_dir(asked.workdir)
        evaluation = evaluate(workdir, asked.split, asked.checkpoint, asked.data)
        if first:
            print_evaluation(f"{asked.workdir}, {asked.split} split", evaluation)
            print(f"report: {workdirs.display_path(write_report(workdir))}")
            workdirs.upload(workdir)
    return 0


def predict(args: Sequence[str]) -> int:
    """labels, values or tagged spans for the texts of a file or a pipe, as JSON lines"""
    from albert_jax.commands.args import parse

    @dataclass(frozen=True)
    class PredictArgs:
        """Answer a text a line with a JSON record a line. A text may also be JSON ({"text": ...}, "text_b", "words");
        of a task on pairs, two texts with a tab between them."""

        workdir: str  # directory of a fine-tuning run
        input: str = "-"  # file with a text a line; - for standard input
        output: str = "-"  # file for the records; - for standard output
        checkpoint: str = "best"  # best, latest or a step
        batch_size: int = 64  # rows that are computed together

    asked = parse(PredictArgs, args, prog="albert_jax predict")
    _set_up_jax()
    from albert_jax.commands.predict_files import predict_lines

    tally = predict_lines(asked.workdir, asked.input, asked.output, asked.checkpoint, asked.batch_size)
    if tally.errors:
        raise AlbertError(
            f"{tally.errors:,} of {tally.texts:,} lines have no answer but an error in their record; "
            f"the first: {tally.first_error}"
        )
    return 0


def inspect(args: Sequence[str]) -> int:
    """tell what a workdir, prepared corpus or vocabulary holds"""
    from albert_jax.commands.inspect import describe

    parser = _Parser(prog="albert_jax inspect", description="Tell what a path holds.")
    parser.add_argument("path", help="workdir, checkpoint directory, prepared directory, vocabulary or .model file")
    asked = parser.parse_args(list(args))
    _set_up_jax()
    print(describe(asked.path))
    return 0


def bench(args: Sequence[str]) -> int:
    """tokens/s of a training step, and its share of the machine's matmul peak"""
    from albert_jax.commands.args import parse

    _set_up_jax()
    from albert_jax.commands.bench import BenchConfig, bench

    bench(parse(BenchConfig, args, prog="albert_jax bench", default=BenchConfig()))
    return 0


def compare(args: Sequence[str]) -> int:
    """one table of the test scores of several workdirs, seeds of a run side by side"""
    from albert_jax.commands.compare import compare

    parser = _Parser(prog="albert_jax compare", description=compare.__doc__)
    parser.add_argument("workdir", nargs="+", help="directories that evaluate has scored")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    asked = parser.parse_args(list(args))
    compare(asked.workdir, asked.split)
    return 0


def convert(args: Sequence[str]) -> int:
    """a checkpoint of Google's, Hugging Face's or ours into one of the others"""
    from albert_jax.interop.convert import Resize
    from albert_jax.interop.convert import convert as run

    parser = _Parser(prog="albert_jax convert", description=convert.__doc__)
    sources = "archive, directory, prefix or TF-Hub module of Google's; Hugging Face directory or hub name; "
    parser.add_argument("source", help=f"{sources}albert_jax directory or workdir")
    parser.add_argument("destination", help="directory to make")
    parser.add_argument("--to", choices=["albert_jax", "hf", "tf1"], default="albert_jax", help="(default: albert_jax)")
    parser.add_argument("--max-positions", type=int, default=0, help="longer position table: its rows")
    parser.add_argument("--add-pieces", default="", help="file with new pieces for the vocabulary, one a line")
    parser.add_argument("--vocab-size", type=int, default=0, help="larger word table, of a source without vocabulary")
    parser.add_argument("--seed", type=int, default=0, help="of the new rows (default: 0)")
    asked = parser.parse_args(list(args))
    _set_up_jax()
    growth = Resize(asked.max_positions, asked.vocab_size, asked.add_pieces, asked.seed)
    run(asked.source, asked.destination, asked.to, growth)
    return 0


def heads(args: Sequence[str]) -> int:
    """which number of attention heads a model was trained with, by its MLM accuracy on a text"""
    from albert_jax.interop.head_count import check_heads, head_table
    from albert_jax.interop.load import open_source

    parser = _Parser(prog="albert_jax heads", description=heads.__doc__)
    parser.add_argument("source", help="what convert takes; with an MLM head and a vocabulary")
    parser.add_argument("text", help="plain text, of the kind and language that the model was trained on")
    parser.add_argument("--candidates", type=int, nargs="+", default=(), help="head counts (default: the usual widths)")
    asked = parser.parse_args(list(args))
    _set_up_jax()
    source = open_source(asked.source)
    if source.tokenizer is None:
        raise AlbertError(f"{asked.source} has no vocabulary to read the text with; put the model's own beside it")
    scores = check_heads(
        source.params, source.config, source.tokenizer, asked.text, asked.candidates, name=asked.source
    )
    print(head_table(scores, source.config))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    verb.__name__: verb
    for verb in (prepare, train, evaluate, predict, seeds, search, compare, inspect, bench, plan, convert, heads)
}

# ---- the rest


def _set_up_jax() -> None:
    """Memory kept between steps, no complaints about a TPU that is not there, and a cache of compiled programs that
    outlives the process, unless JAX_COMPILATION_CACHE_DIR says otherwise."""
    import jax

    from albert_jax.cluster.host_memory import keep_freed_memory

    keep_freed_memory()
    # Where libtpu is installed and no TPU is there, it asks for these two at length before JAX goes on with the CPU.
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
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
    warnings.formatwarning = lambda message, *where: f"warning: {message}\n"  # not the line of code that gave it
    try:
        if words[0] not in VERBS:
            import difflib

            near = difflib.get_close_matches(words[0], VERBS, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise AlbertError(f"there is no verb {words[0]!r}{hint} The verbs are {', '.join(VERBS)}")
        return VERBS[words[0]](words[1:])
    except AlbertError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)  # names in files may hold line ends
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (RuntimeError, MemoryError) as error:  # JAX's is a RuntimeError
        if not isinstance(error, MemoryError) and not re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(error)):
            raise
        said = "".join(str(error).splitlines()[:1])
        print(
            f"error: the memory is too small ({said}); a smaller batch needs less, and in training --micro-batches "
            "and --model.remat, which change no result",
            file=sys.stderr,
        )
        return 2
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
