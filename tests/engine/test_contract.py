"""One trip over the network: what the training step promises, read from programs compiled for TPU slices.

No collective stands in a loop over layers or micro-batches; their number and bytes depend on neither; their bytes are
at most 1.1 times one gather and one reduction of the float32 parameters. `python -m benchmarks.contract` prints the
figures. Needs libtpu (extra `tpu`), no TPU.
"""

import dataclasses

import pytest

from albert_jax.engine.sharding import MeshConfig
from albert_jax.plan.workers import Compilers
from benchmarks.contract import MESHES, SIZES, TOPOLOGIES, experiment, job, of_program, plain


@pytest.fixture(scope="module")
def compilers():
    with Compilers() as made:
        yield made


def check(found) -> None:
    assert found.in_loops == 0
    assert 0 < found.share <= 1.1


def at_both_depths_and_micro_batches(compilers, size, mesh, topology) -> None:
    variants = ((12, 1), (24, 1), (12, 4))
    pending = [compilers.submit(job(size, mesh, topology, *variant)) for variant in variants]
    found = [of_program(future.result()) for future in pending]
    check(found[0])
    assert found[1] == found[0], "depth changes what crosses the network"
    assert found[2] == found[0], "micro-batches change what crosses the network"


@pytest.mark.parametrize("mesh", MESHES)
def test_base_on_v5e(compilers, mesh):
    at_both_depths_and_micro_batches(compilers, "base", mesh, "v5e-256")


def test_xxlarge_on_v6e(compilers):
    program = compilers.submit(job("xxlarge", "ZeRO-3", "v6e-256", micro_batches=4)).result()
    check(of_program(program))
    trips = sorted(loop.trips or 0 for loop in program.loops)
    assert trips.count(12) == 2 and trips.count(4) == 1  # forward and backward over layers, in one over micro-batches
    assert not any(loop.windowed for loop in program.loops)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_is_reduced_in_the_asked_dtype(compilers, dtype):
    base = job("base", "data", "v5e-256")
    mesh = MeshConfig(reduce_dtype=dtype)
    asked = dataclasses.replace(base, experiment=dataclasses.replace(base.experiment, mesh=mesh))
    program = compilers.submit(asked).result()
    reduced = {each.dtype for each in program.collectives if each.bytes > 1_000_000}
    assert reduced == {"f32" if dtype == "float32" else "bf16"}
    size = sum(each.bytes for each in program.collectives)
    assert size == pytest.approx(program.parameters * (4 if dtype == "float32" else 2), rel=0.01)


def test_two_slices_exchange_a_small_part(compilers):
    base = dataclasses.replace(job("base", "data", "v5e-256"), slices=2)
    program = compilers.submit(dataclasses.replace(base, experiment=experiment("base", "data"))).result()
    between = [each for each in program.collectives if each.dcn]
    assert between and not any(each.in_loop for each in program.collectives)
    assert sum(each.bytes for each in between) < 0.1 * 4 * program.parameters


def test_heads_and_feed_forward_split_cleanly(compilers):
    """Two all-reduces a layer forward, two backward (and the forward's two again, that remat repeats); nothing else."""
    base = job("base", "data", "v5e-256")
    mesh = MeshConfig({"data": -1, "fsdp": 2, "tensor": 4})
    for remat, backward in (("dots", 2), ("full", 4)):
        made = dataclasses.replace(base.experiment, mesh=mesh)
        made = dataclasses.replace(made, model=dataclasses.replace(made.model, remat=remat))
        program = compilers.submit(dataclasses.replace(base, experiment=made)).result()
        within = [each for each in program.collectives if each.in_loop]
        assert {each.kind for each in within} == {"all-reduce"}
        loops = {loop: [each for each in within if each.loop == loop] for loop in {each.loop for each in within}}
        assert sorted(map(len, loops.values())) == sorted((2, backward))
        hidden = 64 * 512 * 768 * 2  # bytes of bfloat16 hidden states: 4096 rows over 64 groups
        assert {(each.bytes, each.group, each.executed) for each in within} == {(hidden, 4, 12)}


def test_plain_jit_does_not_keep_it():
    """The yardstick: the same shardings, with the collectives left to the compiler, gather the block in every layer."""
    assert plain("base", "ZeRO-3", "v5e-256", quick=True).in_loops > 100


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_mesh_and_slice(compilers, size, mesh, topology):
    at_both_depths_and_micro_batches(compilers, size, mesh, topology)
