"""How long a training step takes at best on a chip: arithmetic, memory and network, each at its published peak.

All three are read off the compiled program. A step takes the longer of arithmetic and memory, which overlap, plus the
network: ALBERT's one reduction of the shared gradient cannot begin before the backward pass of the first layer has
ended, and the gather must end before the first layer begins. What is left out only makes a step longer: work that is no
matrix product, operations that wait for one another, memory read more than once for one product, stragglers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from albert_jax.cluster.devices import Chip
from albert_jax.plan.hlo import Collective

HOP = 1e-6  # seconds for the first byte to the next chip ("How to Scale Your Model", chapter 3: about a microsecond)


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step on every device at once."""

    compute: float  # matrix products, repeated ones (remat) included, at the chip's peak
    memory: float  # traffic between chip and memory at the memory's peak
    network: float  # collectives one after the other, nothing else meanwhile

    @property
    def total(self) -> float:
        return max(self.compute, self.memory) + self.network

    @property
    def bound(self) -> str:
        """The part that is longest."""
        return max(("compute", "memory", "network"), key=lambda part: getattr(self, part))


def network_seconds(
    collectives: Sequence[Collective], chip: Chip, shape: Sequence[int], wrap: Sequence[bool], slices: int = 1
) -> tuple[float, float]:
    """Seconds on the chips' own network and on the data-centre network.

    A gather or scatter of V bytes takes V (n - 1) / n over the bandwidth of the axes that its n chips span, an
    all-reduce twice that; an axis that does not wrap around has half the bandwidth. Added to it, a microsecond for each
    hop across. What goes to other slices (V bytes, 2 (s - 1) / s of them for s slices) shares the chip's part of its
    host's network cards; its latency is not known and left out.
    """
    inside = outside = 0.0
    for each in collectives:
        if each.dcn:
            outside += each.executed * each.bytes * chip.devices * 2 * (slices - 1) / slices / chip.dcn
            continue
        if each.kind in ("send", "collective-permute"):
            inside += each.executed * (HOP + each.bytes / (chip.ici / 2))
            continue
        chips = max(math.ceil((each.group or math.prod(shape) * chip.devices) / chip.devices), 1)
        if chips == 1:
            continue
        axes = _spanned(chips, shape, wrap)
        bandwidth = sum(chip.ici * (1.0 if ring else 0.5) for _, ring in axes)
        hops = sum(size / 2 if ring else size - 1 for size, ring in axes)
        trips = 2 if each.kind == "all-reduce" else 1
        inside += each.executed * trips * (hops * HOP + each.bytes * (chips - 1) / chips / bandwidth)
    return inside, outside


def _spanned(chips: int, shape: Sequence[int], wrap: Sequence[bool]) -> list[tuple[int, bool]]:
    """The longest axes that hold so many chips, as (chips along it, whether it is a ring). A group that fills a part
    of an axis has no ring."""
    axes, left = [], chips
    for size, ring in sorted(zip(shape, wrap, strict=True), reverse=True):
        if left > 1 and size > 1:
            axes.append((min(size, left), ring and left >= size))
            left = math.ceil(left / size)
    return axes


def step_time(compute_flops: float, memory: float, network: float, chip: Chip) -> StepTime:
    """The three parts on one device: FLOPs and bytes of that device, network seconds of the whole program."""
    return StepTime(compute_flops * chip.devices / chip.peak, memory * chip.devices / chip.bandwidth, network)
