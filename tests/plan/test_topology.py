"""Names of TPU slices, and the table of devices behind them."""

import subprocess
import sys

import pytest

from albert_jax.cluster.devices import GIB, find_chip
from albert_jax.errors import AlbertError
from albert_jax.plan.topology import find_topology, names


@pytest.mark.parametrize(
    ("name", "topology_name", "chips", "devices", "wrap"),
    [
        ("v3-8", "v3:2x2", 4, 8, (False, False)),  # counts cores, and shows them as devices
        ("v4-8", "v4:2x2x1", 4, 4, (False, False, False)),  # counts cores, and shows chips
        ("v4-128", "v4:4x4x4", 64, 64, (True, True, True)),
        ("v5p-256", "v5p:4x4x8", 128, 128, (True, True, True)),
        ("v5e-1", "v5e:1x1", 1, 1, (False, False)),
        ("v5e-128", "v5e:8x16", 128, 128, (False, True)),
        ("v5litepod-256", "v5e:16x16", 256, 256, (True, True)),
        ("V6E-256", "v6e:16x16", 256, 256, (True, True)),
        ("tpu7x-8", "tpu7x:2x2x1", 4, 8, (False, False, False)),
    ],
)
def test_names_count_chips_or_cores(name, topology_name, chips, devices, wrap):
    topology = find_topology(name)
    assert (topology.topology_name, topology.chips, topology.devices) == (topology_name, chips, devices)
    assert topology.wrap == wrap


def test_slices_multiply():
    topology = find_topology("v5e-256", 2)
    assert (topology.chips, topology.devices, topology.hosts, str(topology)) == (512, 512, 128, "2 x v5e-256")
    with pytest.raises(AlbertError, match=r"--slices is 0"):
        find_topology("v5e-256", 0)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("v5e-255", "nearest: v5e-256, v5e-128, v5e-64"),
        ("v5p-4", "nearest: v5p-8, v5p-16, v5p-32"),
        ("v6-256", "nearest: v6e-256"),
        ("h100", "give a version and a size, such as v5e-256"),
        ("", "give a version and a size"),
    ],
)
def test_unknown_names_come_with_the_nearest(name, hint):
    with pytest.raises(AlbertError) as caught:
        find_topology(name)
    assert hint in str(caught.value) and "\n" not in str(caught.value)


OPENED = """
import os
os.environ["JAX_PLATFORMS"] = "cpu"
from albert_jax.cluster.devices import find_chip
from albert_jax.plan.topology import find_topology
for name, slices in {names}:
    topology = find_topology(name, slices)
    devices = topology.open()
    assert len(devices) == topology.devices, (name, len(devices))
    assert find_chip(devices[0].device_kind) is topology.chip, (name, devices[0].device_kind)
    assert len({{getattr(device, "slice_index", 0) for device in devices}}) == slices, name
print("opened")
"""


def test_libtpu_knows_every_slice_and_the_table_every_device():
    """In a process of its own: libtpu stays in one once it is loaded. The largest pods are left out."""
    asked = [(name, 1) for name in names() if find_topology(name).devices <= 512] + [("v5e-16", 2), ("v4-8", 4)]
    done = subprocess.run([sys.executable, "-c", OPENED.format(names=asked)], capture_output=True, text=True)
    assert done.stdout.strip() == "opened", done.stderr[-2000:]


def test_every_chip_is_found_by_the_kinds_that_it_reports():
    assert find_chip("TPU v5 lite") is find_topology("v5e-8").chip
    assert find_chip("TPU v5") is find_topology("v5p-8").chip
    assert find_chip("NVIDIA A100-SXM4-80GB").bandwidth > find_chip("NVIDIA A100-SXM4-40GB").bandwidth
    assert find_chip("NVIDIA L40S") is None and find_chip("cpu") is None


def test_usable_memory_is_less_than_what_is_built_in():
    built_in = {"v2-8": 16, "v3-8": 32, "v4-8": 32, "v5e-8": 16, "v5p-8": 96, "v6e-8": 32, "tpu7x-8": 192}
    for name, size in built_in.items():
        assert 0.9 * size < find_topology(name).chip.memory / GIB < size, name
