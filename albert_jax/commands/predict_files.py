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
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from albert_jax.data.labelled.requests import read_items
from albert_jax.errors import AlbertError
from albert_jax.predict import Predictor, Tally


def predict_lines(
    workdir: str | Path, input: str = "-", output: str = "-", checkpoint: str = "best", batch_size: int = 64
) -> Tally:
    """Answers each line of the file `input` with a JSON record on a line of the file `output`; "-" is standard input
    and output. See `albert_jax.data.labelled.requests` for what a line may be, and `Predictor` for the rest.

    A file is written as OUTPUT.part, which keeps what is there should the command be stopped, and renamed at the end.
    Prints tokens/s on stderr at the end, without the time of compiling and of waiting for input.

    Raises AlbertError for what `Predictor` does, and for files that cannot be read or written.
    """
    with ExitStack() as stack:
        source, size = _source(input)
        stack.enter_context(source)
        predictor = Predictor(workdir, checkpoint, batch_size)
        target = stack.enter_context(_target(output, input))
        lines = read_items(source)
        if size and input != "-" and sys.stderr.isatty() and (output != "-" or not sys.stdout.isatty()):
            lines = stack.enter_context(_progress(lines, size))
        ascii_only = (getattr(target, "encoding", None) or "").lower().replace("-", "") != "utf8"
        interrupted = stack.enter_context(_interruptions())
        start, written = time.perf_counter(), 0
        try:
            for record in predictor.lines(lines, "standard input" if input == "-" else input, waits=size is None):
                if interrupted.is_set():
                    raise KeyboardInterrupt
                target.write(json.dumps(record, ensure_ascii=ascii_only) + "\n")
                if output == "-":
                    target.flush()
                written += 1
        except KeyboardInterrupt:
            kept = "" if output == "-" else f"; their records are in {target.name}, the same command begins again"
            print(f"stopped after {written:,} texts{kept}", file=sys.stderr)
            raise SystemExit(130) from None
    tally = predictor.tally
    seconds = max(time.perf_counter() - start - tally.compiling - tally.waiting, 1e-9)
    print(
        f"{tally.texts:,} texts, {tally.tokens:,} tokens in {seconds:.1f} s: {tally.tokens / seconds:,.0f} tokens/s, "
        f"{tally.positions / seconds:,.0f} with padding (besides, {tally.compiling:.1f} s compiling for "
        f"{len(predictor.compiled)} lengths, {tally.waiting:.1f} s waiting for input)",
        file=sys.stderr,
    )
    return tally


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Set by Ctrl-C, beside the KeyboardInterrupt. That is not raised in JAX's callback of the garbage collector, which
    is where signals often come through: Python would print and drop it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def told(number: int, frame: Any) -> None:
        event.set()
        if frame is None or frame.f_code.co_name != "_xla_gc_callback":
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, told)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _source(path: str) -> tuple[IO[bytes], int | None]:
    """The file, and its bytes; None for one that lines may come from slowly."""
    if path == "-":
        if sys.stdin is None:
            raise AlbertError("standard input is closed; give --input FILE")
        try:  # a file object of our own: a thread that waits in that of sys.stdin would keep Python from ending
            file: IO[bytes] = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
        except (io.UnsupportedOperation, ValueError):
            return sys.stdin.buffer, None
    elif path.endswith(".gz"):
        raise AlbertError(
            f"{path} is compressed; give its lines on standard input: gzip -dc {path} | albert_jax predict ..."
        )
    else:
        try:
            file = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            said = error.strerror or error
            raise AlbertError(f"{path}: cannot be read ({said}); give --input FILE, or - for standard input") from error
    about = os.fstat(file.fileno())
    return file, about.st_size if stat.S_ISREG(about.st_mode) else None


class _target(AbstractContextManager[IO[str]]):
    """Standard output, or a file that gets its name when all went well."""

    def __init__(self, path: str, source: str):
        self._path = Path(path)
        self._beside: Path | None = None
        self._file: IO[str] = sys.stdout
        if path == "-":
            if sys.stdout is None:
                raise AlbertError("standard output is closed; give --output FILE")
            return
        if source != "-" and self._path.exists() and self._path.samefile(source):
            raise AlbertError(f"--output {path} is the input; choose another file")
        if not self._path.exists() or self._path.is_file():  # a device or a pipe is written as it is
            self._beside = self._path.with_name(self._path.name + ".part")
        try:
            self._file = open(self._beside or self._path, "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise AlbertError(f"--output {path} cannot be written ({error.strerror}); choose another file") from error

    def __enter__(self) -> IO[str]:
        return self._file

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._file is sys.stdout:
            return
        self._file.close()
        if self._beside and kind is None:
            os.replace(self._beside, self._path)


class _progress(AbstractContextManager[Iterator[bytes]]):
    """A bar on stderr that moves with the bytes of the lines that were read."""

    def __init__(self, lines: Iterator[bytes], size: int):
        from rich import progress
        from rich.console import Console

        self._lines = lines
        self._bar = progress.Progress(
            progress.TextColumn("predict"), progress.BarColumn(), progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(elapsed_when_finished=True), console=Console(stderr=True),
        )  # fmt: skip
        self._task = self._bar.add_task("predict", total=size)

    def __enter__(self) -> Iterator[bytes]:
        self._bar.start()
        return self._counted()

    def _counted(self) -> Iterator[bytes]:
        for line in self._lines:
            yield line
            self._bar.advance(self._task, len(line))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._bar.stop()
