"""Settings that must be made before JAX starts: eight devices on the CPU, quick rather than fast programs, and each of
them compiled once."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of the time that these tests take; their programs run for milliseconds. With the last two flags the
# programs of two cases of benchmarks/mesh_equality.py compiled in 3.8 s of processor time, not 9.3: XLA's newer way
# of writing fused kernels takes longer to compile, and so do 32 small modules instead of one.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_parallel_codegen_split_count=1"
)
# A killed run that goes on, an evaluation, a second seed compile what a run before them compiled, often in a process of
# its own. Begun empty, the cache took tests/test_train.py from 113 to 90 s of processor time; where programs differ
# (tests/engine/test_step.py: 65 and 67 s) it gains nothing.
# Each worker of pytest-xdist has a folder: JAX writes files in place, another worker could read half of one.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="albert_jax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
elif worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / worker)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest

from tests import tiny
from tests.quick import Quick


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="only the quick tests, under a minute; see tests/quick.py")
    parser.addoption("--write-not-quick", action="store_true", help="measure, and write tests/not_quick.txt anew")


def pytest_configure(config):
    config.pluginmanager.register(Quick(config))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A prepared directory of a small synthetic text."""
    return tiny.prepared(tmp_path_factory.mktemp("tiny"))
