"""The verb train; the run itself is `albert_jax.train`."""

from dataclasses import dataclass, field

from albert_jax.cluster.processes import ProcessConfig, joined
from albert_jax.commands.args import ExperimentOptions
from albert_jax.commands.environment import set_up_jax
from albert_jax.experiment import Experiment
from albert_jax.train import dry_run, train


@dataclass(frozen=True)
class Options(ExperimentOptions):
    """Run a config in a workdir. Give --workdir alone to continue a run. A finished one says that it is done."""

    dry_run: bool = False  # tell what would run and where every parameter would live, and write nothing
    processes: ProcessConfig = field(default_factory=ProcessConfig)


def run(options: Options, experiment: Experiment) -> int:
    set_up_jax()
    # The processes of a run must have found each other before anything asks JAX for a device.
    with joined(options.processes) as first:
        if not options.dry_run:
            train(experiment, options.workdir)
        elif first:
            dry_run(experiment, options.workdir)
    return 0
