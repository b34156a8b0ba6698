"""Know before you pay: whether a training step fits on a TPU slice that you do not have, and how fast it can be."""

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax import __version__
from albert_jax.cluster.devices import Chip, find_chip
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.plan.compile import Job, Program, objective, program_from_dict
from albert_jax.plan.roofline import StepTime, network_seconds, step_time
from albert_jax.plan.search import Variant, largest_batch, remedies, search
from albert_jax.plan.topology import Topology, find_topology
from albert_jax.plan.workers import Compilers


@dataclass(frozen=True)
class Plan:
    """What a run would need and could reach.

    Attributes:
      name: the experiment's
      topology: as in `str(Topology)`, or "here"
      chips: of all slices
      hosts: of all slices; 0 where not known
      steps: of the whole recipe
      program: the training step, compiled with full effort
      time: seconds of a step at best; None for devices that are not in the table and a program that does not fit
      network: seconds of it on the chips' network and between slices
      peak: FLOP/s of all devices; 0 where not known
      largest: program of the largest batch that fits; None where not looked for or not found
      largest_exact: whether one row more is known not to fit
      remedies: what makes a program fit that does not, fastest first
      found: settings that `--search` found, fastest first
    """

    name: str
    topology: str
    chips: int
    hosts: int
    steps: int
    program: Program
    time: StepTime | None
    network: tuple[float, float]
    peak: float
    largest: Program | None = None
    largest_exact: bool = False
    remedies: tuple[Variant, ...] = ()
    found: tuple[Variant, ...] = ()

    @property
    def tokens_per_step(self) -> int:
        return self.program.batch_size * self.program.length

    @property
    def mfu(self) -> float | None:
        """Share of the peak that the model's own FLOPs can reach: the ceiling of what a run will show."""
        return self.program.model_flops / self.time.total / self.peak if self.time and self.peak else None

    @property
    def hours(self) -> float | None:
        """Of the whole recipe at that ceiling, evaluation and saving left out."""
        return self.steps * self.time.total / 3600 if self.time else None

    @property
    def network_bytes(self) -> tuple[int, int]:
        """Bytes of a step that a device gathers, reduces or moves on the chips' network, and sends to other slices."""
        inside = sum(each.executed * each.bytes for each in self.program.collectives if not each.dcn)
        return inside, sum(each.executed * each.bytes for each in self.program.collectives if each.dcn)


def plan(
    experiment: Experiment, topology: str = "", slices: int = 1, *, hlo: str = "", with_remedies: bool = True,
    search_limit: int = 0, patience: float = math.inf, known: dict[str, Program] | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Plan:  # fmt: skip
    """Compiles the experiment's training step for `topology` and works out what follows.

    `known` holds programs that need no compiling; new ones join it. `search_limit` > 0 tries so many other settings.
    After `patience` seconds no further program is compiled for the largest batch.

    Raises AlbertError for an unknown topology, for a mesh or batch that does not divide, and when libtpu is missing.
    """
    until = time.monotonic() + patience
    objective(experiment.check())  # a task that plan does not know is refused before anything starts
    slice_ = find_topology(topology, slices) if topology else None
    if slice_ is None and slices > 1:
        raise AlbertError(f"--slices {slices} needs a --topology, such as v5e-256")
    job = Job(experiment, slice_.name if slice_ else "", slices, hlo=str(Path(hlo).resolve()) if hlo else "")

    def seconds(program: Program) -> float:
        found = _time(program, slice_)[0]
        return found.total if found else math.inf

    largest, exact = None, False
    with Compilers(known=known) as compilers:
        progress(f"compiling {experiment.name} for {slice_ or 'the devices here'}")
        pending = compilers.submit(job)
        if slice_:  # beside it, on another core; what it refuses, the program itself refuses too
            with contextlib.suppress(AlbertError):
                largest, exact = largest_batch(compilers.submit, job, until)
        made = plan_of(experiment, pending.result(), slice_)
        if not made.program.fits and with_remedies:
            progress("it does not fit: trying what would")
            cures = remedies(compilers.submit, job, made.program, largest, seconds)
            made = dataclasses.replace(made, remedies=tuple(cures[:3]))
        if search_limit:
            told = lambda done, what: progress(f"search {done} of at most {search_limit}: {what}")  # noqa: E731
            found = search(compilers.submit, job, made.program.devices, search_limit, seconds, told)
            made = dataclasses.replace(made, found=tuple(found))
    return dataclasses.replace(made, largest=largest, largest_exact=exact)


def plan_of(experiment: Experiment, program: Program, topology: Topology | None) -> Plan:
    """What follows from a compiled program alone."""
    time, network, peak = _time(program, topology)
    chips, hosts = (topology.chips, topology.hosts) if topology else (program.devices, 0)
    where = str(topology) if topology else "here"
    return Plan(experiment.name, where, chips, hosts, experiment.steps, program, time, network, peak)


def _time(program: Program, topology: Topology | None) -> tuple[StepTime | None, tuple[float, float], float]:
    """Roofline of a program, the network's two parts, and the peak of all devices."""
    chip: Chip | None = topology.chip if topology else find_chip(program.device_kind)
    if chip is None and program.peak:  # a CPU: arithmetic measured, the rest not known and left out
        return StepTime(program.program_flops / program.peak, 0.0, 0.0), (0.0, 0.0), program.peak
    if chip is None:
        return None, (0.0, 0.0), 0.0
    peak = chip.peak / chip.devices * program.devices
    if not program.fits:
        return None, (0.0, 0.0), peak
    network = (0.0, 0.0)
    if topology:
        network = network_seconds(program.collectives, chip, topology.shape, topology.wrap, topology.slices)
    return step_time(program.program_flops / program.devices, program.traffic, sum(network), chip), network, peak


# ---- JSON


def to_json(plan: Plan, known: dict[str, Program]) -> dict[str, Any]:
    """A plan as it stands in a file: its fields, what follows from them, and every program that was compiled."""
    fields = dataclasses.asdict(plan)
    follows = {
        "mfu_ceiling": plan.mfu,
        "tokens_per_second": plan.tokens_per_step / plan.time.total if plan.time else None,
        "step_seconds": plan.time.total if plan.time else None,
        "hours": plan.hours,
        "device_hours": plan.hours * plan.program.devices if plan.hours else None,
        "chip_hours": plan.hours * plan.chips if plan.hours else None,
        "ici_bytes": plan.network_bytes[0],
        "dcn_bytes": plan.network_bytes[1],
        "collectives_in_loops": sum(each.executed for each in plan.program.collectives if each.in_loop),
        "memory_total": plan.program.memory.total,
    }
    programs = {key: dataclasses.asdict(program) for key, program in known.items()}
    return {"albert_jax": __version__, "plan": fields, "follows": follows, "programs": programs}


def from_json(value: dict[str, Any]) -> tuple[Plan, dict[str, Program]]:
    """The inverse of `to_json`."""
    fields = dict(value["plan"])
    variant = lambda each: Variant(each["flags"], program_from_dict(each["program"]), each["seconds"])  # noqa: E731
    fields |= {
        "program": program_from_dict(fields["program"]),
        "time": StepTime(**fields["time"]) if fields["time"] else None,
        "network": tuple(fields["network"]),
        "largest": program_from_dict(fields["largest"]) if fields["largest"] else None,
        "remedies": tuple(variant(each) for each in fields["remedies"]),
        "found": tuple(variant(each) for each in fields["found"]),
    }
    return Plan(**fields), {key: program_from_dict(program) for key, program in value["programs"].items()}


def read_programs(path: Path) -> dict[str, Program]:
    """Programs that an earlier --json FILE holds, by key; none where it is missing. Raises AlbertError for a file that
    is something else."""
    if not path.exists():
        return {}
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))[1]
    except (ValueError, KeyError, TypeError) as error:
        raise AlbertError(f"{path} is there and is no plan of this version; remove it or name another file") from error


def write_json(path: Path, plan: Plan, known: dict[str, Program]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(to_json(plan, known), indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
