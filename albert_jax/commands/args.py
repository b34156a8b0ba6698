"""Command-line words to dataclasses: tyro, with each error on one line."""

import contextlib
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import tyro

from albert_jax.errors import refuse

T = TypeVar("T")


def parse(kind: type[T], args: Sequence[str], *, prog: str, default: T | None = None) -> T:
    """`kind`, a dataclass, from command-line words; `--help` prints every field and exits.

    Raises AlbertError, one line, for an unknown field (nearest names given), a value of the wrong type, or a list of
    values whose flag stands twice.
    """
    value = _cli(kind, args, default, prog=prog)
    refuse(_repeated_lists(args, value))
    return value


# ---- verbs that run an experiment


@dataclass(frozen=True)
class ExperimentOptions:
    """The base of the options of a verb that runs an experiment."""

    config: str = ""  # file whose experiment() is run
    workdir: str = ""  # directory for checkpoints, metrics and the report; continued if it has some


_NEEDED = {"train": ("workdir",), "seeds": ("workdir", "config"), "search": ("workdir", "config"), "plan": ()}


def parse_experiment(kind: Any, words: Sequence[str], verb: str) -> tuple[Any, Any]:
    """The options of a verb (of `kind`, an ExperimentOptions), and the Experiment of --config, else of the run in
    --workdir, with the fields changed that `words` give by their paths, such as --optim.peak-lr 5e-3.

    Raises AlbertError as `parse` does, and where --config or --workdir is missing or names nothing.
    """
    # Here, not above: the other verbs answer --help without waiting seconds for JAX.
    from albert_jax import experiment as experiments
    from albert_jax.cluster import workdirs

    def flaws() -> Iterator[str]:
        metavars = {"workdir": "DIR", "config": "configs/NAME.py"}
        for name in _NEEDED[verb] or (() if options.workdir else ("config",)):
            if not getattr(options, name):
                yield f"{verb} needs --{name} {metavars[name]}; see {prog} --help"
        if not options.config and not (workdirs.local_dir(options.workdir) / experiments.FILE).exists():
            yield f"{options.workdir} holds no run to continue; give --config configs/NAME.py to start one"

    prog = f"albert_jax {verb}"
    # Two passes: which fields an experiment has depends on its config, since each kind of task has its own.
    options, fields = _cli(kind, words, prog=prog, add_help=False, return_unknown_args=True)
    if {"-h", "--help"} & set(fields):
        with contextlib.suppress(SystemExit):
            parse(kind, ["--help"], prog=prog)
        print("\nEvery field of the experiment, with the config's value as default:\n")
    else:
        refuse(flaws())
    if options.config:
        default = experiments.load_config(options.config)
    else:
        default = experiments.read(options.workdir) if options.workdir else experiments.example()
    return options, parse(experiments.Experiment, fields, prog=prog, default=default)


def _cli(kind: Any, words: Sequence[str], default: Any = None, **options: Any) -> Any:
    """`tyro.cli`. Raises AlbertError where tyro prints a message and exits."""
    # AvoidSubcommands: the config decides which kind of task an experiment has, a subcommand would change it.
    options |= {"f": kind, "config": (tyro.conf.AvoidSubcommands,)} | ({} if default is None else {"default": default})
    # What tyro prints about wrong words is a box of several lines; `_messages` gives it on one.
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(args=list(words), **options)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    refuse(_messages(words, options))


def _messages(words: Sequence[str], options: dict[str, Any]) -> Iterator[str]:
    # tyro answers an unknown field with the help of those that are like it: more than a line.
    known = sorted(set(re.findall(r"--[a-z][\w.-]*", _printed(["--help"], options | {"add_help": True}))))
    for word in words:
        flag = word.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known and not options.get("return_unknown_args"):
            near = difflib.get_close_matches(flag, known, n=3, cutoff=0.5)
            hint = f"; nearest: {', '.join(near)}" if near else "; --help lists all fields"
            yield f"there is no field {word.split('=')[0]}{hint}"
    lines = [line.strip() for line in _printed(words, options).partition("For full helptext")[0].splitlines()]
    # Rules between parts, and titles that say no more than the line below them.
    dropped = ("", "Value error", "Invalid choice", "Missing argument", "Unrecognized options")
    yield " ".join(line for line in lines if line.strip("-") not in dropped)


def _printed(words: Sequence[str], options: dict[str, Any]) -> str:
    """All that tyro prints about `words`, without boxes and colours."""
    # tyro has no public exception with the message: `console_outputs=False` drops it, and `tyro._errors` may change
    # with any release. But it draws nothing around its text where standard output has no encoding and is no terminal.
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
        tyro.cli(args=list(words), **options)
    return out.getvalue()


def _repeated_lists(words: Sequence[str], value: Any) -> Iterator[str]:
    # Of a flag given twice the later counts. Of a list of files, the first would be dropped without a word.
    flags = Counter(word.split("=")[0].replace("_", "-") for word in words if word.startswith("--"))
    for flag in (flag for flag, count in flags.items() if count > 1):
        found = value
        for name in flag[2:].replace("-", "_").split("."):
            found = getattr(found, name, None)
        if isinstance(found, tuple):
            yield f"{flag} is given twice; give all its values after one: {flag} ONE OTHER"
