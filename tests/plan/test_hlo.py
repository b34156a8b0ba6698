"""Collectives, loops and traffic as read off real program texts; `tests/plan/hlo/make.py` made them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from albert_jax.plan import hlo

STORED = Path(__file__).parent / "hlo"
D, F, LAYERS = 1024, 4096, 3  # of tests/plan/hlo/make.py
WEIGHT = D * F  # numbers in one of its two matrices


def stored(name):
    return (STORED / f"{name}.txt").read_text()


def told(text):
    """(kind, bytes, dtype, group, executed, depth, dcn) of every collective, sorted."""
    return sorted((c.kind, c.bytes, c.dtype, c.group, c.executed, c.depth, c.dcn) for c in hlo.collectives(text))


def test_plain_jit_gathers_and_reduces_in_every_layer():
    """Two matrices gathered in bfloat16 in both loops, asynchronous ones once although each stands four times in the
    text; both gradients reduced by one tuple all-reduce in the backward loop."""
    text = stored("sharded_by_jit")
    assert text.count(" all-gather(") > 4
    gather = ("all-gather", 2 * WEIGHT, "bf16", 16, LAYERS, 1, False)
    assert told(text) == [gather] * 4 + [("all-reduce", 4 * WEIGHT, "bf16", 16, LAYERS, 1, False)]
    assert {c.loop for c in hlo.collectives(text)} == {loop.name for loop in hlo.while_loops(text)}


def test_gathered_once_has_no_collective_in_a_loop():
    text = stored("gathered_once")
    gather = ("all-gather", 2 * WEIGHT, "bf16", 16, 1, 0, False)
    assert told(text) == [gather] * 2 + [("all-reduce", 8 * WEIGHT, "f32", 16, 1, 0, False)]
    assert not any(c.in_loop for c in hlo.collectives(text))
    # Micro-batches around layers forward and layers backward.
    assert [(loop.trips, loop.executed, loop.depth) for loop in hlo.while_loops(text)] == [
        (2, 2, 1),
        (3, 6, 2),
        (3, 6, 2),
    ]


def test_what_crosses_to_another_slice():
    """Each of four chips sends its quarter of both float32 gradients; within a slice they are scattered (padded, as an
    all-reduce in a fusion) and gathered."""
    found = hlo.collectives(stored("two_slices"))
    sent = [c for c in found if c.dcn]
    assert [(c.kind, c.bytes, c.executed) for c in sent] == [("send", WEIGHT, 1)] * 2
    scattered = [c.bytes for c in found if c.kind == "reduce-scatter"]
    assert len(scattered) == 2 and all(4 * WEIGHT < size < 1.2 * 4 * WEIGHT for size in scattered)
    assert [c.bytes for c in found if c.kind == "all-gather"] == [4 * WEIGHT] * 2
    assert not any(c.kind == "all-reduce" or c.in_loop for c in found)


def test_windowed_product_is_seen():
    text = stored("windowed")
    assert [(loop.trips, loop.windowed) for loop in hlo.while_loops(text)] == [(8, True)]
    permutes = [c for c in hlo.collectives(text) if c.kind == "collective-permute"]
    assert sorted(c.executed for c in permutes) == [1, 8, 8, 8, 8]
    assert not any(loop.windowed for loop in hlo.while_loops(stored("gathered_once")))


def program(function, in_specs, out_specs, *arguments, shape=(8,)):
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(shape), ("x", "y")[: len(shape)])
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped).lower(*arguments).compile().as_text()


def test_a_program_compiled_here():
    """A sum over half of the devices in a loop of 5 in a loop of 7, and a gather after both."""

    def local(x):
        inner = lambda y, _: (jnp.tanh(jax.lax.psum(y, "y")), None)  # noqa: E731
        outer = lambda y, _: (jax.lax.scan(inner, y, None, length=5)[0] * 2, None)  # noqa: E731
        return jax.lax.all_gather(jax.lax.scan(outer, x, None, length=7)[0], "x", tiled=True)

    text = program(local, P("x"), P(), jax.ShapeDtypeStruct((8, 16), jnp.float32), shape=(2, 4))
    assert told(text) == [
        ("all-gather", 8 * 16 * 4, "f32", 2, 1, 0, False),
        ("all-reduce", 4 * 16 * 4, "f32", 4, 35, 2, False),
    ]
    assert [(loop.trips, loop.executed, loop.depth) for loop in hlo.while_loops(text)] == [(7, 7, 1), (5, 35, 2)]


def test_permute_and_all_to_all_compiled_here():
    def local(x):
        return jax.lax.ppermute(x, "x", [(i, (i + 1) % 8) for i in range(8)]), jax.lax.all_to_all(x, "x", 1, 0)

    text = program(local, P("x"), (P("x"), P("x")), jax.ShapeDtypeStruct((8, 8), jnp.bfloat16))
    sizes = {c.kind: c.bytes for c in hlo.collectives(text)}
    width = 4 if "f32" in {c.dtype for c in hlo.collectives(text)} else 2  # a CPU may widen bfloat16
    assert sizes == {"collective-permute": 8 * width, "all-to-all": 8 * width}


HAND = """HloModule hand, num_partitions=8

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%within (p: f32[4]) -> f32[32] {
  %p = f32[4]{0} parameter(0)
  ROOT %g = f32[32]{0} all-gather(%p), replica_groups=[1,8]<=[8], dimensions={0}
}

%until (s: (s32[], f32[4])) -> pred[] {
  %s = (s32[], f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%s), index=1
  ROOT %any = pred[] custom-call(%x), custom_call_target="any"
}

%again (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], f32[4]{0}) parameter(0)
  %y = f32[4]{0} get-tuple-element(%t), index=1
  %r = f32[4] all-reduce(%y), replica_groups=mesh['i'=4,'j'=2], device_ids=([4,2]T(1,0)) {'i':(2)2,'j'}, to_apply=%sum
  ROOT %out = (s32[], f32[4]{0}) tuple(%t, %r)
}

%left (l: f32[4]) -> f32[4] {
  %l = f32[4]{0} parameter(0)
  ROOT %q = f32[4]{0} reduce-scatter(%l), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, to_apply=%sum
}

%right (m: f32[4]) -> f32[4] {
  ROOT %m = f32[4]{0} parameter(0)
}

ENTRY %main (e: f32[4]) -> f32[4] {
  %e = f32[4]{0} parameter(0)
  %zero = s32[] constant(0)
  %both = (s32[], f32[4]{0}) tuple(%zero, %e)
  %loop = (s32[], f32[4]{0}) while(%both), condition=%until, body=%again
  %start = ((f32[4]{0}), f32[32]{0}) async-start(%e), calls=%within
  %done = f32[32]{0} async-done(%start), calls=%within
  %gs = (f32[4]{0}, f32[32]{0}) all-gather-start(%e), replica_groups={}, dimensions={0}
  %gd = f32[32]{0} all-gather-done(%gs)
  %two = (f32[4]{0}, bf16[4]{0}) all-reduce(%e, %e), replica_groups={}, to_apply=%sum
  %token = token[] after-all()
  %out = (f32[4]{0}, u32[], token[]) send(%e, %token), channel_id=1, is_host_transfer=true
  ROOT %if = f32[4]{0} conditional(%zero, %e, %e), branch_computations={%left, %right}
}
"""


def test_forms_that_the_stored_programs_lack():
    found = {c.name: c for c in hlo.collectives(HAND)}
    assert {name: (c.kind, c.bytes, c.dtype, c.group) for name, c in found.items()} == {
        "r": ("all-reduce", 16, "f32", 4),
        "g": ("all-gather", 128, "f32", 8),  # once: the start is entered, the end is not
        "gs": ("all-gather", 128, "f32", 8),
        "two": ("all-reduce", 24, "bf16+f32", 8),
        "q": ("reduce-scatter", 64, "f32", 4),
    }
    assert len(hlo.collectives(HAND)) == 5
    loop = hlo.while_loops(HAND)[0]
    assert (loop.trips, loop.executed, found["r"].executed, found["r"].loop) == (None, 1, 1, "loop")


def test_text_of_something_else():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.collectives("module @jit_f {}")


def test_traffic_of_a_product_and_a_loop():
    """Reads two matrices and writes one; the loop reads one layer's slice at a time and updates its result in place."""
    size = 512
    matrix = jax.ShapeDtypeStruct((size, size), jnp.float32)
    product = jax.jit(lambda a, b: a @ b).lower(matrix, matrix).compile().as_text()
    assert hlo.memory_traffic(product) == 3 * 4 * size**2

    text = """HloModule slices

%step (k: f32[12,64,64], i: s32[], u: f32[1,64,64]) -> f32[12,64,64] {
  %k = f32[12,64,64]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %u = f32[1,64,64]{2,1,0:S(1)} parameter(2)
  %old = f32[1,64,64]{2,1,0} dynamic-slice(%k, %i, %i, %i), dynamic_slice_sizes={1,64,64}
  %new = f32[1,64,64]{2,1,0} add(%old, %u)
  ROOT %w = f32[12,64,64]{2,1,0} dynamic-update-slice(%k, %new, %i, %i, %i)
}

ENTRY %main (a: f32[12,64,64], j: s32[], b: f32[1,64,64]) -> f32[12,64,64] {
  %a = f32[12,64,64]{2,1,0} parameter(0)
  %j = s32[] parameter(1)
  %b = f32[1,64,64]{2,1,0} parameter(2)
  %room = f32[12,64,64]{2,1,0} custom-call(), custom_call_target="AllocateBuffer"
  %in = (f32[1,64,64]{2,1,0:S(1)}, f32[1,64,64]{2,1,0}, u32[]) copy-start(%b)
  %here = f32[1,64,64]{2,1,0:S(1)} copy-done(%in)
  ROOT %f = f32[12,64,64]{2,1,0} fusion(%a, %j, %here), kind=kLoop, calls=%step
}
"""
    layer = 64 * 64 * 4
    # b brought onto the chip, the old layer read, the new one written, and the index; the room itself moves nothing.
    assert hlo.memory_traffic(text) == 3 * layer + 4
