"""The verb plan; see `albert_jax.plan`."""

from dataclasses import dataclass

from albert_jax.commands.args import ExperimentOptions
from albert_jax.experiment import Experiment


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
    # Here, not above: --help need not wait for Matplotlib.
    from albert_jax.plan.report import main

    return main(experiment, options)
