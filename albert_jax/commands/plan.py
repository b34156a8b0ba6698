"""The verb plan; see `albert_jax.plan`."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from albert_jax import files
from albert_jax.commands.args import ExperimentOptions
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment

_PATIENCE = 30.0  # seconds after which the largest batch found so far is good enough


@dataclass(frozen=True)
class Options(ExperimentOptions):
    """Compile the training step of a config, or of a run, for a slice that is not here: memory, network and time."""

    topology: str = ""  # slice to compile for, such as v5e-256; empty takes the devices here
    slices: int = 1  # slices of it, joined by the data-centre network
    search: bool = False  # try remat x micro-batches x mesh; the best that fit as a table
    search_limit: int = 24  # compilations that the search may take
    params: bool = False  # a line for each parameter: shape, spec, bytes a device
    json: str = ""  # file for the plan; programs that it already holds are not compiled again
    png: str = ""  # file for a picture: memory and time as bars
    hlo: str = ""  # file for the compiled program's text


def run(options: Options, experiment: Experiment) -> int:
    """Raises AlbertError, after all is printed and written, for a program that does not fit: the line says by how much
    and names the remedies."""
    # Here, not above: --help need not wait for Matplotlib.
    from albert_jax.plan import report
    from albert_jax.plan.search import plan

    # Before the minutes of compiling, not after them.
    for name in ("json", "png", "hlo"):
        if not Path(file := getattr(options, name)).resolve().parent.is_dir():
            raise AlbertError(f"--{name} {file}: its directory does not exist; make it first")
    known = report.read_programs(Path(options.json)) if options.json else {}
    with _progress() as progress:
        made = plan(
            experiment, options.topology, options.slices, hlo=options.hlo, known=known, progress=progress,
            patience=_PATIENCE, search_limit=options.search_limit if options.search else 0,
        )  # fmt: skip
    report.show(made, with_params=options.params)
    if options.json:
        files.write_json(Path(options.json), report.to_json(made, known))
    if options.png:
        report.draw(made, Path(options.png))
    sys.stdout.flush()
    if not made.program.fits:
        raise AlbertError(report.does_not_fit(made))
    return 0


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A function that shows what is under way, on a line of the terminal that vanishes in the end; or does nothing."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True).status("plan") as status:
        yield status.update
