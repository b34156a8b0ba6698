"""Where arrays live: a mesh of devices with named axes, and for every parameter the axes that divide it.

The four mesh axes, outermost first:
  slice   copies of the parameters, one a TPU slice; slices are joined by the data-centre network
  data    copies of the parameters within a slice
  fsdp    divides the optimizer's state (ZeRO-1), or the parameters too (ZeRO-3)
  tensor  divides heads and feed-forward inside a block
The rows of a batch are divided over the first three.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from albert_jax.errors import AlbertError, refuse
from albert_jax.fields import JsonNames, JsonSizes, check, knob
from albert_jax.model.layers import Axes

# In order of growing traffic: mesh_utils.create_device_mesh puts neighbours along the last axes close together.
SLICE, DATA, FSDP, TENSOR = AXES = ("slice", "data", "fsdp", "tensor")
ROWS = (SLICE, DATA, FSDP)  # the axes that the rows of a batch are divided over

# Mesh axis -> logical axes, first choice first. A tensor is divided along the first that it has and that divides.
RULES: dict[str, tuple[str, ...]] = {FSDP: ("vocab", "hidden", "factor"), TENSOR: ("heads", "feed_forward")}


@dataclass(frozen=True)
class MeshConfig:
    """Devices as a grid with named axes, and what is divided over it. Raises AlbertError for a number out of range."""

    # devices along slice, data, fsdp and tensor; -1 takes what is left, an axis not named has 1 (slice: as many as the
    # devices have)
    shape: JsonSizes = field(default_factory=lambda: {DATA: -1})
    zero: Literal[1, 3] = 3  # what fsdp divides: 1 the optimizer's state, 3 the parameters too; same bytes either way
    # mesh axis to the logical axes that it may divide, first choice first
    rules: JsonNames = field(default_factory=lambda: dict(RULES))
    # 2^18 float32 numbers are 1 MiB, which crosses a chip's links in about the time of their latency.
    replicate_below: int = knob(2**18, at_least=0)  # numbers; smaller tensors stay whole along fsdp
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"  # of the gradient while it crosses the network
    devices: int = knob(0, at_least=0)  # use only the first so many devices; 0 = all

    def __post_init__(self) -> None:
        check(self, "mesh")

    def sizes(self, devices: int, slices: int = 1) -> dict[str, int]:
        """Devices along every axis. Raises AlbertError for unknown axes and for a product that is not `devices`."""
        refuse(self._shape_flaws(devices, slices))
        sizes = {SLICE: slices, DATA: 1, FSDP: 1, TENSOR: 1} | self.shape
        fixed = math.prod(size for size in sizes.values() if size != -1)
        return {axis: devices // fixed if size == -1 else size for axis, size in sizes.items()}

    def _shape_flaws(self, devices: int, slices: int) -> Iterator[str]:
        shape = f"mesh.shape {json.dumps(dict(self.shape))}"
        for axis, size in self.shape.items():
            if axis not in AXES:
                yield f"{shape} names the axis {axis!r}; the axes are {', '.join(AXES)}"
            if size < 1 and size != -1:
                yield f"{shape}: {axis!r} is {size}; give at least 1, or -1 for what is left"
        open_axes = [axis for axis, size in self.shape.items() if size == -1]
        if len(open_axes) > 1:
            yield f"{shape} has -1 for {' and '.join(open_axes)}; only one can take what is left"
        fixed = math.prod(size for size in ({SLICE: slices} | self.shape).values() if size != -1)
        if devices % fixed or (not open_axes and fixed != devices):
            yield (
                f"{shape} asks for {'a multiple of ' if open_axes else ''}{fixed} devices"
                f"{f' ({slices} slices)' if slices > 1 else ''} and there are {devices}; "
                "change it, or let one axis be -1 to take what is left"
            )

    def build(self, devices: list[Any] | None = None) -> Mesh:
        """The mesh of `devices`, by default all of this run. Raises AlbertError as `sizes` does."""
        devices = list(jax.devices() if devices is None else devices)
        used = devices[: self.devices or None]
        slices = len({getattr(device, "slice_index", 0) for device in used})
        sizes = self.sizes(len(used), slices)
        refuse(self._device_flaws(len(devices), slices, sizes[SLICE]))
        shape = tuple(sizes[axis] for axis in AXES)
        # Devices of one slice may still be cut along the slice axis: so such a mesh is tried without having several.
        if slices == 1:
            grid = mesh_utils.create_device_mesh(shape, used, allow_split_physical_axes=True)
        else:
            grid = mesh_utils.create_hybrid_device_mesh(
                (1, *shape[1:]), (slices, 1, 1, 1), used, allow_split_physical_axes=True
            )
        return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))

    def _device_flaws(self, devices: int, slices: int, along: int) -> Iterator[str]:
        if self.devices > devices:
            yield f"mesh.devices asks for {self.devices} devices; there are {devices}"
        if slices not in (1, along):
            yield f"mesh.shape has {along} along 'slice' and the devices are on {slices} slices; leave it out"

    def lay_out(self, shapes: Mapping[str, tuple[int, ...]], axes: Mapping[str, Axes], mesh: Mesh) -> "Layout":
        """Where every parameter goes. `shapes` and `axes` (logical names) are by path.

        Raises AlbertError that names the tensor, the axis and the fix when a rule cannot be followed.
        """
        refuse(
            f"mesh.rules has the axis {axis!r}; only {FSDP!r} and {TENSOR!r} divide parameters"
            for axis in self.rules
            if axis not in (FSDP, TENSOR)
        )
        specs = {path: self._spec(path, shape, axes[path], mesh) for path, shape in shapes.items()}
        divided = {path: P(*spec) for path, spec in specs.items()}
        # ZeRO-1 keeps whole parameters on every device and divides only what is computed from the gradient.
        whole = (FSDP,) if self.zero == 1 else ()
        stored = {path: P(*(None if axis in whole else axis for axis in spec)) for path, spec in specs.items()}
        return Layout(mesh, stored, divided, dict(shapes), self)

    def _spec(self, path: str, shape: tuple[int, ...], axes: Axes, mesh: Mesh) -> list[str | None]:
        """The mesh axis along each array axis of a parameter, None where it is whole."""
        spec: list[str | None] = [None] * len(shape)
        for axis, choices in self.rules.items():
            size = mesh.shape[axis]
            options = [axes.index(name) for name in choices if name in axes]
            if size == 1 or not options or (axis == FSDP and math.prod(shape) < self.replicate_below):
                continue
            chosen = next((option for option in options if shape[option] % size == 0), None)
            if chosen is None:
                tried = " and ".join(f"{axes[option]} = {shape[option]}" for option in options)
                fit = max(math.gcd(size, shape[option]) for option in options)
                raise AlbertError(
                    f"{path} {list(shape)} does not divide over {axis!r}: {tried}, mesh.shape has {size} there; "
                    f"choose a divisor such as {fit}, or change mesh.rules"
                )
            if spec[chosen]:
                raise AlbertError(
                    f"mesh.rules puts both {spec[chosen]!r} and {axis!r} on the axis {axes[chosen]!r} of "
                    f"{path} {list(shape)}; give one of them another logical axis"
                )
            spec[chosen] = axis
        return spec


def preset(name: str, fsdp: int = 1, tensor: int = 1) -> MeshConfig:
    """A usual mesh by name; `data` takes the devices that are left.

    "data": whole copies everywhere. "zero1": the optimizer's state divided by `fsdp`. "zero3": parameters too.
    `tensor` > 1 goes with each. Raises AlbertError for another name, and for "data" with `fsdp`.
    """
    refuse(_preset_flaws(name, fsdp))
    return MeshConfig({DATA: -1, FSDP: fsdp, TENSOR: tensor}, zero=1 if name == "zero1" else 3)


def _preset_flaws(name: str, fsdp: int) -> Iterator[str]:
    if name not in ("data", "zero1", "zero3"):
        yield f"no mesh preset {name!r}; there are data, zero1 and zero3"
    if name == "data" and fsdp != 1:
        yield f"the preset 'data' divides nothing over fsdp, and fsdp is {fsdp}; choose zero1 or zero3"


@dataclass(frozen=True)
class Layout:
    """A mesh and how every parameter is divided over it, by path."""

    mesh: Mesh  # the devices, axes as in AXES
    stored: dict[str, P]  # how a parameter lives between steps
    divided: dict[str, P]  # how its gradient and its moments live, and how the update is computed
    shapes: dict[str, tuple[int, ...]]  # global shapes
    config: MeshConfig  # what it was made of

    @property
    def row_groups(self) -> int:
        """Into how many parts the rows of a batch are divided."""
        return math.prod(self.mesh.shape[axis] for axis in ROWS)

    @property
    def manual(self) -> tuple[str, ...]:
        """Axes that the step handles itself: all but `tensor`, which the compiler follows by its constraints."""
        # Along a single device there is nothing to divide: all manual, the compiler has no constraint to follow.
        return ROWS if self.mesh.shape[TENSOR] > 1 else AXES

    @property
    def activations(self) -> dict[str, str]:
        """Logical axes of activations that are divided inside a block."""
        return dict.fromkeys(self.config.rules.get(TENSOR, ()), TENSOR) if self.mesh.shape[TENSOR] > 1 else {}

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    @property
    def rows(self) -> NamedSharding:
        """The first axis divided over the row groups."""
        return NamedSharding(self.mesh, P(ROWS))

    def fsdp_axis(self, path: str) -> int | None:
        """The array axis that `fsdp` divides in gradient and moments, None where none is."""
        spec = self.divided[path]
        return spec.index(FSDP) if FSDP in spec else None

    def gathers(self, path: str) -> bool:
        """Whether the parameter is stored divided along fsdp."""
        return FSDP in self.stored[path]

    def spec(self, name: str) -> P:
        """How a leaf is divided: a parameter by its path, a leaf of the optimizer's state by the parameter's path that
        its own ends with; all else is whole."""
        if name in self.stored:
            return self.stored[name]
        # By suffix, since every optimizer nests its moments in its own way, also one that a user brings along.
        parts = name.split("/")
        for start in range(1, len(parts)):
            tail = "/".join(parts[start:])
            if tail in self.divided:
                return self.divided[tail]
        return P()

    def check_batch(self, batch_size: int, micro_batches: int) -> None:
        """Raises AlbertError when a global batch does not divide over the row groups and micro-batches."""
        parts = self.row_groups * micro_batches
        if batch_size % parts == 0:
            return
        below, above = batch_size // parts * parts, -(-batch_size // parts) * parts
        named = " x ".join(f"{axis} {self.mesh.shape[axis]}" for axis in ROWS if self.mesh.shape[axis] > 1)
        raise AlbertError(
            f"batch_size {batch_size} does not divide over {self.row_groups} parts ({named or 'one device'}) x "
            f"{micro_batches} micro-batches; make it {f'{below} or ' if below else ''}{above}"
        )

    def process_rows(self, batch_size: int) -> list[int]:
        """Rows of the global batch that this process's devices hold, ascending."""
        # Devices along the tensor axis hold the same rows, hence the set.
        held = self.rows.addressable_devices_indices_map((batch_size,)).values()
        return sorted({row for (part,) in held for row in range(*part.indices(batch_size))})  # type: ignore[misc]

    def to_devices(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """A global batch from this process's rows of it, in the order of `process_rows`."""
        return {name: jax.make_array_from_process_local_data(self.rows, array) for name, array in batch.items()}

    def table(self) -> list[tuple[str, str, str, int, int]]:
        """A row for each parameter: path, shape, spec, bytes a device of the parameter and of its two moments."""
        rows = []
        for path, shape in self.shapes.items():
            spec = self.divided[path]
            # Of float32, whatever the compute dtype.
            stored, divided = (
                4 * math.prod(NamedSharding(self.mesh, each).shard_shape(shape)) for each in (self.stored[path], spec)
            )
            text = ", ".join(str(axis or "-") for axis in spec)
            if self.config.zero == 1 and FSDP in spec:
                text += " (moments only)" if TENSOR not in spec else " (fsdp: moments only)"
            rows.append((path, "x".join(map(str, shape)), text if any(spec) else "whole", stored, 2 * divided))
        return rows
