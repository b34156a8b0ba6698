"""The mesh of devices. Today one axis, `data`: every device holds all parameters and its rows of the batch."""

from dataclasses import dataclass, field
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from albert_jax.cli import JsonSizes
from albert_jax.errors import AlbertError

DATA = "data"


@dataclass(frozen=True)
class MeshConfig:
    """Devices as a grid with named axes.

    Attributes:
      shape: devices along each axis; -1 takes all that are there
    """

    shape: JsonSizes = field(default_factory=lambda: {DATA: -1})

    def build(self, devices: list[Any] | None = None) -> Mesh:
        """The mesh. Raises AlbertError for an unknown axis or more devices than there are."""
        devices = jax.devices() if devices is None else devices
        unknown = [axis for axis in self.shape if axis != DATA]
        if unknown:
            raise AlbertError(f"mesh.shape names the axis {unknown[0]!r}; there is only {DATA!r}")
        size = self.shape.get(DATA, -1)
        size = len(devices) if size == -1 else size
        if not 1 <= size <= len(devices):
            raise AlbertError(f"mesh.shape asks for {size} devices along {DATA!r}; there are {len(devices)}")
        return jax.make_mesh((size,), (DATA,), devices=devices[:size], axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def rows(mesh: Mesh) -> NamedSharding:
    """The first axis divided over the devices."""
    return NamedSharding(mesh, P(DATA))


def to_devices(batch: dict[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """A global batch from this process's rows of it."""
    return {name: jax.make_array_from_process_local_data(rows(mesh), array) for name, array in batch.items()}
