"""TPU slices by their usual names, for compiling without having one."""

import difflib
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from albert_jax.cluster.devices import TPUS, Chip
from albert_jax.errors import AlbertError, extra

# The shapes that Google offers (cloud.google.com/tpu/docs, the page of each version).
_PLANE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x4x12", "4x8x8", "8x8x8", "8x8x12", "8x8x16",
         "8x16x16", "16x16x16")  # fmt: skip
# Generation -> shapes, and what libtpu calls the configuration in which a chip shows as `Chip.devices` devices.
_SHAPES = {
    "v2": (("2x2", "4x4", "8x8", "8x16", "16x16"), "default"),
    "v3": (("2x2", "4x4", "4x8", "8x8", "8x16", "16x16", "16x32", "32x32"), "default"),
    "v4": (_CUBE[:-1], "megacore"),
    "v5e": (_PLANE, "default"),
    "v5p": ((*_CUBE, "16x16x24"), "default"),
    "v6e": (_PLANE, "default"),
    "tpu7x": (("1x1x1", *_CUBE), "default"),
}
# The number in a name counts chips (v5e, v6e) or, of these versions, TensorCores, of which a chip has two: v4-8 is 4
# chips, v5p-256 is 128.
_CORES = {"v2", "v3", "v4", "v5p", "tpu7x"}
# An axis of a plane wraps around where it is as long as the torus of the pod; those of a cube do from 4x4x4 on.
_FULL = {"v2": 16, "v3": 32, "v5e": 16, "v6e": 16}
_ALIASES = {"v5litepod": "v5e", "v5lite": "v5e", "v7x": "tpu7x"}
MAX_SLICES = 256
BUSY = "libtpu is held by another process of this machine; wait, or set ALLOW_MULTIPLE_LIBTPU_LOAD=1"


def is_busy(text: str) -> bool:
    """Whether libtpu, of which `text` is the message or the log, is held by another process."""
    return re.search(r"lockfile|already in use|in use by process", text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Topology:
    """One or several equal slices; chips, devices and hosts are those of all."""

    name: str  # usual name of a slice
    slices: int  # how many there are, joined by the data-centre network
    shape: tuple[int, ...]  # chips along each axis of a slice
    wrap: tuple[bool, ...]  # whether the axis is a ring
    chip_config: str  # libtpu's configuration of a chip
    host: tuple[int, int, int]  # chips of one host along each axis
    chip: Chip  # what one chip can do

    @property
    def topology_name(self) -> str:
        """libtpu's name of a slice, such as v5e:16x16."""
        return f"{self.name.rsplit('-', 1)[0]}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        return self.slices * math.prod(self.shape)

    @property
    def devices(self) -> int:
        return self.chips * self.chip.devices

    @property
    def hosts(self) -> int:
        return self.chips // math.prod(self.host)

    def __str__(self) -> str:
        return f"{self.slices} x {self.name}" if self.slices > 1 else self.name

    def open(self) -> list[Any]:
        """Its devices, to compile for; they run nothing. JAX must not have been used in this process before.

        Raises AlbertError when libtpu is missing, or held by another process.
        """
        # Without them libtpu asks a metadata server that is not there, and refuses to work in two processes.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        try:
            import libtpu  # noqa: F401
        except ImportError as error:
            needed = "compiling for a TPU needs libtpu, which runs on any Linux CPU"
            raise AlbertError(f"{needed}: {extra('tpu')}") from error
        from jax.experimental import topologies

        several = {"num_slices": self.slices} if self.slices > 1 else {}
        try:
            described = topologies.get_topology_desc(
                platform="tpu", topology_name=self.topology_name, chip_config_name=self.chip_config,
                chips_per_host_bounds=self.host, wrap=(*self.wrap, False)[:3], **several,
            )  # fmt: skip
        except Exception as error:  # jaxlib has no class of its own for what libtpu reports
            reason = " ".join(str(error).split())
            unknown = f"libtpu cannot describe {self.topology_name}: {reason[:300]}"
            raise AlbertError(BUSY if is_busy(reason) else unknown) from error
        return list(described.devices)


def names() -> list[str]:
    """Every name that `find_topology` knows."""
    return [f"{kind}-{_count(kind, shape)}" for kind, (shapes, _) in _SHAPES.items() for shape in shapes]


def find_topology(name: str, slices: int = 1) -> Topology:
    """The slice of that name. Raises AlbertError for an unknown one, with the nearest names."""
    if not 1 <= slices <= MAX_SLICES:
        raise AlbertError(f"--slices is {slices}; give 1 to {MAX_SLICES}")
    kind, _, count = name.strip().lower().rpartition("-")
    kind = _ALIASES.get(kind, kind)
    shapes, config = _SHAPES.get(kind, ((), ""))
    for text in shapes:
        if str(_count(kind, text)) == count:
            shape = tuple(map(int, text.split("x")))
            whole = min(shape) >= 4 and len(shape) == 3
            wrap = tuple(whole or (kind in _FULL and length >= _FULL[kind]) for length in shape)
            host = (1, 1, 1) if max(shape) == 1 else (2, 2, 1)
            return Topology(f"{kind}-{count}", slices, shape, wrap, config, host, TPUS[kind])
    raise AlbertError(f"there is no TPU slice {name!r}; {_nearest(kind, count)}")


def _count(kind: str, shape: str) -> int:
    """The number in the name of a slice of that shape."""
    return math.prod(map(int, shape.split("x"))) * (2 if kind in _CORES else 1)


def _nearest(kind: str, count: str) -> str:
    if kind in _SHAPES and count.isdigit():
        sizes = sorted((_count(kind, shape) for shape in _SHAPES[kind][0]), key=lambda size: abs(size - int(count)))
        return f"nearest: {', '.join(f'{kind}-{size}' for size in sizes[:3])}"
    if near := difflib.get_close_matches(f"{kind}-{count}".strip("-"), names(), n=3, cutoff=0.4):
        return f"nearest: {', '.join(near)}"
    return f"give a version and a size, such as v5e-256; versions: {', '.join(_SHAPES)}"
