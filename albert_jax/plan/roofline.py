"""How long a training step takes at best: its compiled program's arithmetic, memory and network at published peaks."""

# A bound, not a forecast. Left out is what only makes a step longer: work that is no matrix product, operations that
# wait for one another, memory read more than once for one product, stragglers.

import math
from collections.abc import Sequence
from dataclasses import dataclass

from albert_jax.cluster.devices import Chip, find_chip
from albert_jax.experiment import Experiment
from albert_jax.plan.compile import Program
from albert_jax.plan.hlo import Collective
from albert_jax.plan.topology import Topology

HOP = 1e-6  # seconds for the first byte to the next chip ("How to Scale Your Model", chapter 3: about a microsecond)


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step on every device at once."""

    compute: float  # matrix products, repeated ones (remat) included, at the chip's peak
    memory: float  # traffic between chip and memory at the memory's peak
    network: float  # collectives one after the other, nothing else meanwhile

    @property
    def total(self) -> float:
        # Arithmetic and memory overlap. The network does not: the one reduction of the shared gradient cannot begin
        # before the backward pass of the first layer has ended, and the one gather ends before the first layer begins.
        return max(self.compute, self.memory) + self.network

    @property
    def bound(self) -> str:
        """The part that is longest."""
        return max(("compute", "memory", "network"), key=lambda part: getattr(self, part))


# The names of the fields of Variant and Plan stand in the files of `plan --json`.
@dataclass(frozen=True)
class Variant:
    """A change to an experiment, and the program that it gives."""

    flags: str  # the change as words of the command line
    program: Program  # compiled with the least effort
    seconds: float  # roofline time of its step


@dataclass(frozen=True)
class Plan:
    """What a run would need and could reach."""

    name: str  # the experiment's
    topology: str  # as in `str(Topology)`, or "here"
    chips: int  # of all slices
    hosts: int  # of all slices; 0 where not known
    steps: int  # of the whole recipe
    program: Program  # the training step, compiled with full effort
    time: StepTime | None  # of a step at best; None for devices not in the table and a program that does not fit
    network: tuple[float, float]  # seconds of it on the chips' network and between slices
    peak: float  # FLOP/s of all devices; 0 where not known
    largest: Program | None = None  # of the largest batch that fits; None where not looked for or not found
    largest_exact: bool = False  # whether one row more is known not to fit
    remedies: tuple[Variant, ...] = ()  # what makes a program fit that does not, fastest first
    found: tuple[Variant, ...] = ()  # settings that `--search` found, fastest first

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


def plan_of(experiment: Experiment, program: Program, topology: Topology | None) -> Plan:
    """What follows from a compiled program alone; `topology` is None for the devices here."""
    time, network, peak = program_time(program, topology)
    chips, hosts = (topology.chips, topology.hosts) if topology else (program.devices, 0)
    where = str(topology) if topology else "here"
    return Plan(experiment.name, where, chips, hosts, experiment.steps, program, time, network, peak)


def program_time(program: Program, topology: Topology | None) -> tuple[StepTime | None, tuple[float, float], float]:
    """A program's step at best, the network's two parts of it, and the peak of all devices; as in `Plan`."""
    chip: Chip | None = topology.chip if topology else find_chip(program.device_kind)
    # A CPU is in no table: its arithmetic was measured, its memory and network are not known and left out.
    if chip is None and program.peak:
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


def step_time(flops: float, memory: float, network: float, chip: Chip) -> StepTime:
    """The three parts on one device: FLOPs and bytes of that device, network seconds of the whole program."""
    return StepTime(flops * chip.devices / chip.peak, memory * chip.devices / chip.bandwidth, network)


def network_seconds(
    collectives: Sequence[Collective], chip: Chip, shape: Sequence[int], wrap: Sequence[bool], slices: int = 1
) -> tuple[float, float]:
    """Seconds on the chips' own network and on the data-centre network, of chips in a grid of `shape` whose axes `wrap`
    around or not."""
    inside = outside = 0.0
    for each in collectives:
        if each.dcn:
            # V bytes go to other slices as 2 (s - 1) / s of them for s slices, on the chip's part of its host's network
            # cards. The latency is not known and left out.
            outside += each.executed * each.bytes * chip.devices * 2 * (slices - 1) / slices / chip.dcn
            continue
        if each.kind in ("send", "collective-permute"):
            inside += each.executed * (HOP + each.bytes / (chip.ici / 2))
            continue
        chips = max(math.ceil((each.group or math.prod(shape) * chip.devices) / chip.devices), 1)
        if chips == 1:
            continue
        # V bytes take V (n - 1) / n over the bandwidth of the axes that the n chips span, plus a microsecond a hop; an
        # all-reduce is a scatter and a gather. An axis that does not wrap around has half the bandwidth.
        axes = _spanned(chips, shape, wrap)
        bandwidth = sum(chip.ici * (1.0 if ring else 0.5) for _, ring in axes)
        hops = sum(size / 2 if ring else size - 1 for size, ring in axes)
        trips = 2 if each.kind == "all-reduce" else 1
        inside += each.executed * trips * (hops * HOP + each.bytes * (chips - 1) / chips / bandwidth)
    return inside, outside


def _spanned(chips: int, shape: Sequence[int], wrap: Sequence[bool]) -> list[tuple[int, bool]]:
    """The longest axes that hold so many chips, as (chips along it, whether it is a ring)."""
    axes, left = [], chips
    for size, ring in sorted(zip(shape, wrap, strict=True), reverse=True):
        if left > 1 and size > 1:
            axes.append((min(size, left), ring and left >= size))  # a group that fills a part of an axis has no ring
            left = math.ceil(left / size)
    return axes
