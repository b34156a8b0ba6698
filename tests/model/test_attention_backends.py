"""The other implementations of attention against the plain one, and what they must refuse.

Splash kernels run here as plain operations (interpret mode); that they compile is read off programs for a TPU slice."""

import dataclasses
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from albert_jax import experiment
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import initial_params, lay_out
from albert_jax.engine.step import make_gradients
from albert_jax.errors import AlbertError
from albert_jax.model import attention, attention_splash
from albert_jax.model.config import albert
from albert_jax.tasks.pretrain import PretrainObjective, random_batch

splash = partial(attention_splash.attend, interpret=True)


def inputs(length, dtype=jnp.float32, rows=2, heads=2, width=8):
    """Queries, keys, values, a mask with padding at the end of one example and holes in it, and a weight of outputs."""
    random = np.random.default_rng(length)
    q, k, v, weight = (jnp.asarray(random.normal(size=(rows, length, heads, width)), dtype) for _ in range(4))
    mask = np.ones((rows, length), bool)
    mask[1, length // 2 :] = False
    mask[1, 3:5] = False
    return q, k, v, jnp.asarray(mask), weight


def outputs_and_gradients(attend, q, k, v, mask, weight):
    @jax.jit
    def both(q, k, v):
        out, pull_back = jax.vjp(lambda *qkv: attend(*qkv, mask), q, k, v)
        return out, *pull_back(weight)

    return [np.asarray(x, np.float32) for x in both(q, k, v)]


# 64 is filled up to 128; 256 is one tile of scores, with one kernel for the three gradients; 768 is four tiles.
@pytest.mark.parametrize("length", [64, 256, 768])
def test_splash_equals_the_plain_one(length):
    arrays = inputs(length)
    pairs = zip(outputs_and_gradients(splash, *arrays), outputs_and_gradients(attention.attend, *arrays), strict=True)
    for got, want in pairs:  # at padded queries, too
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_splash_in_bfloat16_is_as_near_to_float32_as_the_plain_one():
    """Root mean square errors against the same numbers computed in float32: at most 1.5 times the plain one's, and
    below 1 % of the root mean square."""
    arrays = inputs(256, jnp.bfloat16)
    exact = outputs_and_gradients(attention.attend, *(x if x.dtype == bool else x.astype(jnp.float32) for x in arrays))
    ours, plain = outputs_and_gradients(splash, *arrays), outputs_and_gradients(attention.attend, *arrays)
    size = lambda x: np.sqrt(np.mean(x**2))  # noqa: E731
    for x, y, e in zip(ours, plain, exact, strict=True):
        assert 0 < size(x - e) < min(1.5 * size(y - e), 0.01 * size(e))


def test_splash_of_an_example_without_real_keys_is_finite():
    q, k, v, mask, weight = inputs(64)
    for x in outputs_and_gradients(splash, q, k, v, jnp.zeros_like(mask), weight):
        assert np.isfinite(x).all()


def test_splash_softmax_is_float32_for_bfloat16_inputs():
    q, k, v, mask, _ = inputs(128, jnp.bfloat16)
    loss = lambda *qkv: splash(*qkv, mask).astype(jnp.float32).sum()  # noqa: E731
    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(q, k, v))
    lines = [line for line in text.splitlines() if " exp " in line or " log " in line or "reduce_max" in line]
    assert len(lines) >= 4 and not any("bf16" in line for line in lines)


SMALL = albert("tiny", vocab_size=50, hidden_size=32, heads=2, feed_forward_size=64, embedding_size=16)


def gradients(mesh, remat="none"):
    task = PretrainObjective(dataclasses.replace(SMALL, remat=remat), 12, 4)
    batch = random_batch(SMALL, 4, 12, 4)
    batch["mask"][1, 7:] = False
    layout = lay_out(task, mesh)
    params = jax.tree.map(lambda x: 3 * x, initial_params(task, 0))  # scores that matter
    return jax.jit(make_gradients(task, layout))(params, jnp.int32(0), layout.to_devices(batch))


@pytest.fixture(scope="module")
def plain_gradients():
    return gradients(MeshConfig(devices=1))


@pytest.mark.parametrize(("shape", "remat"), [({"data": 2}, "full"), ({"data": 2, "tensor": 2}, "none")])
def test_splash_trains_as_the_plain_one_on_every_mesh(plain_gradients, monkeypatch, shape, remat):
    # With the dropout arguments that a backend takes and a kernel does not.
    monkeypatch.setattr("albert_jax.model.albert.backend", lambda name: lambda *arrays, **_: splash(*arrays))
    got = gradients(MeshConfig(shape, devices=int(np.prod(list(shape.values())))), remat)
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(plain_gradients[0]))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(plain_gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest)


def test_splash_refuses_what_it_cannot_split():
    arrays = inputs(128, rows=4, heads=3)[:4]
    outer = lambda axes, manual: jax.jit(  # noqa: E731
        jax.shard_map(
            splash, mesh=jax.make_mesh((2, 2), axes, axis_types=(AxisType.Auto,) * 2), in_specs=P(manual),
            out_specs=P(manual), axis_names={manual},
        )
    )  # fmt: skip
    with pytest.raises(AlbertError, match="model.heads 3 does not divide over the 2 devices"):
        outer(("data", "tensor"), "data")(*arrays)
    with pytest.raises(AlbertError, match="automatic mesh axis 'fsdp'"):
        outer(("data", "fsdp"), "data")(*arrays)


@pytest.mark.parametrize("name", ["splash", "cudnn"])
def test_a_device_that_an_implementation_does_not_run_on_is_refused(name):
    arrays = inputs(128, jnp.bfloat16)[:4]
    with pytest.raises(AlbertError, match=f"'{name}' needs a .PU and this program is for a CPU; set model.attention"):
        attention.backend(name)(*arrays)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    with pytest.raises(AlbertError, match="is for a CPU"):
        jax.shard_map(attention.backend(name), mesh=mesh, in_specs=P("data"), out_specs=P("data"))(*arrays)


def test_dropout_of_probabilities_is_refused_where_it_would_be_ignored():
    arrays, keys = inputs(128, jnp.bfloat16)[:4], jax.random.split(jax.random.key(0), 2)
    for name in ("splash", "cudnn"):
        with pytest.raises(AlbertError, match=f"'{name}' cannot drop attention probabilities"):
            attention.backend(name)(*arrays, dropout_rate=0.1, dropout_keys=keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "splash", "attention_dropout": 0.1}, "set model.attention_dropout 0.1 to 0 or"),
        ({"attention": "cudnn"}, "set that to 'bfloat16'"),
        ({"attention": "cudnn", "compute_dtype": "bfloat16", "heads": 8}, "makes them 4 wide; change model.heads"),
    ],
)
def test_fields_that_do_not_go_together_are_named(changes, message):
    with pytest.raises(AlbertError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_cudnn_is_given_the_same_mask_and_scale(monkeypatch):
    """No GPU here: the wrapper's call, answered by the other implementation of the same function."""
    other = partial(jax.nn.dot_product_attention)
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *a, **k: other(*a, **{**k, "implementation": "xla"}))
    arrays = inputs(64, jnp.bfloat16)
    got = outputs_and_gradients(attention.attend_cudnn, *arrays)
    for x, want in zip(got, outputs_and_gradients(attention.attend, *arrays), strict=True):
        np.testing.assert_allclose(x, want, atol=0.05)


ON_TPU = """
import jax
from jax.experimental import topologies
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import abstract_params, lay_out, shardings
from albert_jax.engine.step import make_gradients
from albert_jax.model.config import albert
from albert_jax.tasks.pretrain import PretrainObjective, random_batch

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
for attention in ("xla", "splash"):
    config = albert("tiny", vocab_size=256, max_positions=512, compute_dtype="bfloat16", attention=attention)
    task = PretrainObjective(config, 512, 8)
    layout = lay_out(task, MeshConfig({"data": 2, "tensor": 2}), devices=list(devices))
    place = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    params = abstract_params(task)
    params = jax.tree.map(place, params, shardings(params, layout))
    batch = {name: place(x, layout.rows) for name, x in random_batch(config, 6, 512, 8).items()}
    step = jax.ShapeDtypeStruct((), "int32", sharding=layout.replicated)
    program = jax.jit(make_gradients(task, layout)).lower(params, step, batch).compile()
    text = program.as_text()
    searched = ('custom_call_target="tpu_custom_call"', "512,512]", "[3,2,512,64]")
    print(attention, *(text.count(part) for part in searched))
"""


def test_splash_compiles_for_a_tpu_slice_and_holds_no_scores():
    """The gradient of the training loss on v5e, heads split over two devices; needs libtpu, but no TPU."""
    surroundings = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    done = subprocess.run([sys.executable, "-c", ON_TPU], capture_output=True, text=True, env=os.environ | surroundings)
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line[:3] in ("xla", "spl")}
    # One kernel forward, one for all three gradients; no array of scores; none of both heads of an example.
    assert found["splash"] == ["2", "0", "0"]
    assert found["xla"][0] == "0" < found["xla"][1]


def test_kernels_are_imported_only_when_chosen():
    code = (
        "import sys, albert_jax.model.albert; "
        "print([name for name in sys.modules if 'attention_' in name and ('albert_jax' in name or 'splash' in name)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_may_go_on_with_another_implementation():
    stored = experiment.example()
    asked = dataclasses.replace(stored, model=dataclasses.replace(stored.model, attention="splash"))
    assert experiment.differences(stored, asked) == []
