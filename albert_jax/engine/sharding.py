"""Where arrays live: a mesh with named axes, rules from logical to mesh axes, and the layout that they give.

Four mesh axes, outermost first. `slice` crosses the data-centre network, `data` holds copies of the parameters, `fsdp`
divides the optimizer's state (ZeRO-1) or the parameters too (ZeRO-3), `tensor` divides heads and feed-forward inside a
block. The rows of a batch are divided over the first three.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from albert_jax.errors import AlbertError
from albert_jax.fields import JsonNames, JsonSizes
from albert_jax.model.layers import Axes

SLICE, DATA, FSDP, TENSOR = AXES = ("slice", "data", "fsdp", "tensor")
ROWS = (SLICE, DATA, FSDP)  # the axes that the rows of a batch are divided over

# Mesh axis -> logical axes, first choice first. A tensor is divided along the first that it has and that divides.
RULES: dict[str, tuple[str, ...]] = {FSDP: ("vocab", "hidden", "factor"), TENSOR: ("heads", "feed_forward")}


@dataclass(frozen=True)
class MeshConfig:
    """Devices as a grid with named axes, and what is divided over it.

    Attributes:
      shape: devices along each of slice, data, fsdp and tensor; -1 takes what is left, an axis not named has 1 (slice:
        as many as the devices have)
      zero: what fsdp divides: 1 the optimizer's state, 3 the parameters too; both move the same bytes
      rules: mesh axis to the logical axes that it may divide, first choice first
      replicate_below: numbers; smaller tensors stay whole along fsdp
      reduce_dtype: of the gradient while it crosses the network
      devices: use only the first so many devices; 0 = all
    """

    shape: JsonSizes = field(default_factory=lambda: {DATA: -1})
    zero: Literal[1, 3] = 3
    rules: JsonNames = field(default_factory=lambda: dict(RULES))
    replicate_below: int = 2**18
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    devices: int = 0

    def sizes(self, devices: int, slices: int = 1) -> dict[str, int]:
        """Devices along every axis. Raises AlbertError for unknown axes and for a product that is not `devices`."""
        said = json.dumps(dict(self.shape))
        for axis, size in self.shape.items():
            if axis not in AXES:
                raise AlbertError(f"mesh.shape {said} names the axis {axis!r}; the axes are {', '.join(AXES)}")
            if size < 1 and size != -1:
                raise AlbertError(f"mesh.shape {said}: {axis!r} is {size}; give at least 1, or -1 for what is left")
        sizes = {SLICE: slices, DATA: 1, FSDP: 1, TENSOR: 1} | self.shape
        open_axes = [axis for axis, size in sizes.items() if size == -1]
        if len(open_axes) > 1:
            raise AlbertError(f"mesh.shape {said} has -1 for {' and '.join(open_axes)}; only one can take what is left")
        fixed = math.prod(size for size in sizes.values() if size != -1)
        if devices % fixed or (not open_axes and fixed != devices):
            raise AlbertError(
                f"mesh.shape {said} asks for {'a multiple of ' if open_axes else ''}{fixed} devices"
                f"{f' ({slices} slices)' if slices > 1 else ''} and there are {devices}; "
                "change it, or let one axis be -1 to take what is left"
            )
        return sizes | {axis: devices // fixed for axis in open_axes}

    def build(self, devices: list[Any] | None = None) -> Mesh:
        """The mesh of `devices`, by default all of this run. Raises AlbertError as `sizes` does."""
        devices = list(jax.devices() if devices is None else devices)
        if self.devices > len(devices):
            raise AlbertError(f"mesh.devices asks for {self.devices} devices; there are {len(devices)}")
        devices = devices[: self.devices or None]
        slices = len({getattr(device, "slice_index", 0) for device in devices})
        sizes = self.sizes(len(devices), slices)
        shape = tuple(sizes[axis] for axis in AXES)
        if slices == 1:
            grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        elif sizes[SLICE] == slices:
            grid = mesh_utils.create_hybrid_device_mesh(
                (1, *shape[1:]), (slices, 1, 1, 1), devices, allow_split_physical_axes=True
            )
        else:
            raise AlbertError(
                f"mesh.shape has {sizes[SLICE]} along 'slice' and the devices are on {slices} slices; leave it out"
            )
        return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))

    def lay_out(self, shapes: Mapping[str, tuple[int, ...]], axes: Mapping[str, Axes], mesh: Mesh) -> "Layout":
        """Where every parameter goes. `shapes` and `axes` (logical names) are by path.

        Raises AlbertError that names the tensor, the axis and the fix when a rule cannot be followed.
        """
        for axis in self.rules:
            if axis not in (FSDP, TENSOR):
                raise AlbertError(f"mesh.rules has the axis {axis!r}; only {FSDP!r} and {TENSOR!r} divide parameters")
        stored, divided = {}, {}
        for path, shape in shapes.items():
            spec = self._place(path, shape, axes[path], mesh)
            divided[path] = P(*spec)
            stored[path] = P(*(None if axis == FSDP and self.zero == 1 else axis for axis in spec))
        return Layout(mesh, stored, divided, dict(shapes), self)

    def _place(self, path: str, shape: tuple[int, ...], axes: Axes, mesh: Mesh) -> list[str | None]:
        spec: list[str | None] = [None] * len(shape)
        for axis, choices in self.rules.items():
            size = mesh.shape[axis]
            having = [name for name in choices if name in axes]
            if size == 1 or not having or (axis == FSDP and math.prod(shape) < self.replicate_below):
                continue
            fitting = [axes.index(name) for name in having if shape[axes.index(name)] % size == 0]
            if not fitting:
                tried = " and ".join(f"{name} = {shape[axes.index(name)]}" for name in having)
                sizes = (shape[axes.index(name)] for name in having)
                fit = max(math.gcd(size, length) for length in sizes)
                raise AlbertError(
                    f"{path} {list(shape)} does not divide over {axis!r}: {tried}, mesh.shape has {size} there; "
                    f"choose a divisor such as {fit}, or change mesh.rules"
                )
            if spec[fitting[0]]:
                raise AlbertError(
                    f"mesh.rules puts both {spec[fitting[0]]!r} and {axis!r} on the axis {axes[fitting[0]]!r} of "
                    f"{path} {list(shape)}; give one of them another logical axis"
                )
            spec[fitting[0]] = axis
        return spec


def preset(name: str, fsdp: int = 1, tensor: int = 1) -> MeshConfig:
    """A usual mesh by name; `data` takes the devices that are left.

    "data": whole copies everywhere. "zero1": the optimizer's state divided by `fsdp`. "zero3": parameters too.
    `tensor` > 1 goes with each. Raises AlbertError for another name.
    """
    if name not in ("data", "zero1", "zero3"):
        raise AlbertError(f"no mesh preset {name!r}; there are data, zero1 and zero3")
    if name == "data" and fsdp != 1:
        raise AlbertError(f"the preset 'data' divides nothing over fsdp, and fsdp is {fsdp}; choose zero1 or zero3")
    return MeshConfig({DATA: -1, FSDP: fsdp, TENSOR: tensor}, zero=1 if name == "zero1" else 3)


@dataclass(frozen=True)
class Layout:
    """A mesh and the place of every parameter on it.

    Attributes:
      mesh: the devices, axes as in `AXES`
      stored: path -> how the parameter lives between steps
      divided: path -> how its gradient and its moments live, and how the update is computed
      shapes: path -> global shape
      config: what it was made of
    """

    mesh: Mesh
    stored: dict[str, P]
    divided: dict[str, P]
    shapes: dict[str, tuple[int, ...]]
    config: MeshConfig

    @property
    def row_groups(self) -> int:
        """Into how many parts the rows of a batch are divided."""
        return math.prod(self.mesh.shape[axis] for axis in ROWS)

    @property
    def manual(self) -> tuple[str, ...]:
        """Axes that the step handles itself: all but `tensor`, which the compiler follows by its constraints."""
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
        """Place of a leaf of params, or of a leaf of the optimizer's state whose path ends with a parameter's."""
        if name in self.stored:
            return self.stored[name]
        parts = name.split("/")
        for start in range(1, len(parts)):
            tail = "/".join(parts[start:])
            if tail in self.divided:
                return self.divided[tail]
        return P()

    def check_batch(self, batch_size: int, micro_batches: int) -> None:
        """Raises AlbertError when a global batch does not divide over the row groups and micro-batches."""
        parts = self.row_groups * micro_batches
        if batch_size % parts:
            below, above = batch_size // parts * parts, -(-batch_size // parts) * parts
            named = " x ".join(f"{axis} {self.mesh.shape[axis]}" for axis in ROWS if self.mesh.shape[axis] > 1)
            raise AlbertError(
                f"batch_size {batch_size} does not divide over {self.row_groups} parts ({named or 'one device'}) x "
                f"{micro_batches} micro-batches; make it {f'{below} or ' if below else ''}{above}"
            )

    def process_rows(self, batch_size: int) -> list[int]:
        """Rows of the global batch that this process's devices hold, ascending."""
        held = self.rows.addressable_devices_indices_map((batch_size,)).values()
        return sorted({row for (part,) in held for row in range(*part.indices(batch_size))})  # type: ignore[misc]

    def to_devices(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """A global batch from this process's rows of it, in the order of `process_rows`."""
        return {name: jax.make_array_from_process_local_data(self.rows, array) for name, array in batch.items()}

    def table(self) -> list[tuple[str, str, str, int, int]]:
        """A row for each parameter: path, shape, spec, bytes a device of the parameter and of its two moments."""
        rows = []
        for path, shape in self.shapes.items():
            stored, divided = (
                4 * math.prod(NamedSharding(self.mesh, spec).shard_shape(shape))
                for spec in (self.stored[path], self.divided[path])
            )
            spec = self.divided[path]
            said = ", ".join(str(axis or "-") for axis in (*spec, *[None] * (len(shape) - len(spec))))
            if self.config.zero == 1 and FSDP in spec:
                said += " (moments only)" if TENSOR not in spec else " (fsdp: moments only)"
            rows.append((path, "x".join(map(str, shape)), said if any(spec) else "whole", stored, 2 * divided))
        return rows
