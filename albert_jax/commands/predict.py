"""The verb predict: lines of a file or a pipe in, JSON lines out."""

import io
import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from albert_jax.commands.environment import set_up_jax
from albert_jax.data.labelled.requests import read_items
from albert_jax.errors import AlbertError, refuse, retold

if TYPE_CHECKING:
    from albert_jax.predict import Tally


@dataclass(frozen=True)
class Options:
    """Answer a text a line with a JSON record a line. A text may also be JSON ({"text": ...}, "text_b", "words");
    of a task on pairs, two texts with a tab between them."""

    workdir: str  # directory of a fine-tuning run
    input: str = "-"  # file with a text a line; - for standard input
    output: str = "-"  # file for the records; - for standard output
    checkpoint: str = "best"  # best, latest or a step
    batch_size: int = 64  # rows that are computed together


def run(options: Options) -> int:
    set_up_jax()
    tally = predict_lines(options)
    if tally.errors:
        raise AlbertError(
            f"{tally.errors:,} of {tally.texts:,} lines have no answer but an error in their record; "
            f"the first: {tally.first_error}"
        )
    return 0


def predict_lines(options: Options) -> "Tally":
    """Answers each line; `albert_jax.data.labelled.requests` says what a line may be. Raises AlbertError for what
    `Predictor` does, and for files that cannot be read or written."""
    # Here, not above: --help and a wrong option answer without waiting seconds for JAX.
    from albert_jax.predict import Predictor
    from albert_jax.telemetry.progress import ProgressLine

    input, output = options.input, options.output
    refuse(_flaws(input, output))
    with ExitStack() as stack:
        source, size = _source(input)
        stack.enter_context(source)
        predictor = Predictor(options.workdir, options.checkpoint, options.batch_size)
        target = stack.enter_context(_target(output))
        lines = read_items(source)
        # No bar among records that are printed on the same terminal.
        if size and input != "-" and sys.stderr.isatty() and (output != "-" or not sys.stdout.isatty()):
            lines = stack.enter_context(ProgressLine("predict", size, counted=False)).follow(lines, len)
        # Where the output cannot hold every letter, JSON's escapes can.
        ascii_only = (getattr(target, "encoding", None) or "").lower().replace("-", "") != "utf8"
        interrupted = stack.enter_context(_interruptions())
        name = "standard input" if input == "-" else input
        start, written = time.perf_counter(), 0
        try:
            for record in predictor.lines(lines, name, waits=size is None):
                if interrupted.is_set():
                    raise KeyboardInterrupt
                target.write(json.dumps(record, ensure_ascii=ascii_only) + "\n")
                # Whoever reads the pipe may wait for this answer before it sends the next line.
                if output == "-":
                    target.flush()
                written += 1
        except KeyboardInterrupt:
            kept = "" if output == "-" else f"; their records are in {target.name}, the same command begins again"
            print(f"stopped after {written:,} texts{kept}", file=sys.stderr)
            raise SystemExit(130) from None
    tally = predictor.tally
    # Compiling happens once whatever the number of texts, and waiting is another program's time.
    seconds = max(time.perf_counter() - start - tally.compiling - tally.waiting, 1e-9)
    print(
        f"{tally.texts:,} texts, {tally.tokens:,} tokens in {seconds:.1f} s: {tally.tokens / seconds:,.0f} tokens/s, "
        f"{tally.positions / seconds:,.0f} with padding (besides, {tally.compiling:.1f} s compiling for "
        f"{len(predictor.compiled)} lengths, {tally.waiting:.1f} s waiting for input)",
        file=sys.stderr,
    )
    for note in tally.notes:
        print(note, file=sys.stderr)
    return tally


def _flaws(input: str, output: str) -> Iterator[str]:
    if input == "-" and sys.stdin is None:
        yield "standard input is closed; give --input FILE"
    if output == "-" and sys.stdout is None:
        yield "standard output is closed; give --output FILE"
    if input.endswith(".gz"):
        how = f"give its lines on standard input: gzip -dc {input} | albert_jax predict ..."
        yield f"{input} is compressed; {how}"
    if "-" not in (input, output) and all(map(os.path.exists, (input, output))) and os.path.samefile(input, output):
        yield f"--output {output} is the input; choose another file"


def _source(path: str) -> tuple[BinaryIO, int | None]:
    """The file, and its bytes; None for one that lines may come from slowly."""
    if path == "-":
        try:
            # A file object of our own: a thread that waits in that of sys.stdin would keep Python from ending.
            file: BinaryIO = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
        except (io.UnsupportedOperation, ValueError):
            return sys.stdin.buffer, None
    else:
        advice = "give --input FILE, or - for standard input"
        with retold(lambda message: f"{path}: cannot be read ({message}); {advice}", OSError):
            file = open(path, "rb")  # noqa: SIM115
    status = os.fstat(file.fileno())
    return file, status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _target(output: str) -> Iterator[IO[str]]:
    if output == "-":
        yield sys.stdout
        return
    path = Path(output)
    # A file gets its name when all is written: until then OUTPUT.part keeps the records of a command that is stopped,
    # and an older OUTPUT is left alone. A device or a pipe is written as it is.
    part = path.with_name(path.name + ".part") if path.is_file() or not path.exists() else path
    with retold(lambda message: f"--output {output} cannot be written ({message}); choose another file", OSError):
        file = open(part, "w", encoding="utf-8")  # noqa: SIM115
    with file:
        yield file
    if part != path:
        os.replace(part, path)


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Set by Ctrl-C, beside the KeyboardInterrupt."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def on_interrupt(number: int, frame: Any) -> None:
        event.set()
        # Signals often arrive in JAX's callback of the garbage collector, where Python prints and drops exceptions.
        if frame is None or frame.f_code.co_name != "_xla_gc_callback":
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
