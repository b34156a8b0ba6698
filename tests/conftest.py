"""Settings that must be made before JAX starts: eight devices on the CPU, and quick rather than fast programs."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of the time that these tests take; their programs run for milliseconds.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A prepared directory of a small synthetic text."""
    return tiny.prepared(tmp_path_factory.mktemp("tiny"))
