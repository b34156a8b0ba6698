"""The verb evaluate; the scores are made in `albert_jax.evaluate`."""

from dataclasses import dataclass, field

from albert_jax.cluster import workdirs
from albert_jax.cluster.processes import ProcessConfig, joined
from albert_jax.commands.environment import set_up_jax


@dataclass(frozen=True)
class Options:
    """Score a workdir's checkpoint on a split; writes evaluation-SPLIT.json and predictions-SPLIT.jsonl there."""

    workdir: str  # directory of a train run
    split: str = "test"  # train, validation or test
    checkpoint: str = "best"  # best, latest or a step
    data: str = ""  # prepared directory, should it have moved since the run, or a labelled file for the split
    processes: ProcessConfig = field(default_factory=ProcessConfig)


def run(options: Options) -> int:
    set_up_jax()
    # Here, not above: --help and a wrong option answer without waiting seconds for these.
    from albert_jax.commands.compare import print_evaluation
    from albert_jax.evaluate import evaluate
    from albert_jax.telemetry.report import write_report

    with joined(options.processes) as first:
        workdir = workdirs.local_dir(options.workdir)
        evaluation = evaluate(workdir, options.split, options.checkpoint, options.data)
        if first:
            print_evaluation(f"{options.workdir}, {options.split} split", evaluation)
            print(f"report: {workdirs.display_path(write_report(workdir))}")
            workdirs.upload(workdir)
    return 0
