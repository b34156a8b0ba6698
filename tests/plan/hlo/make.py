"""Makes the programs beside it: small steps compiled for TPU slices by libtpu, without what the tests do not read.

python tests/plan/hlo/make.py   (libtpu 0.0.42.1, jax 0.10.2; no TPU is needed)
"""

import os
import re
from pathlib import Path

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
os.environ.pop("XLA_FLAGS", None)

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

D, F, ROWS, LAYERS = 1024, 4096, 256, 3


def mesh(name, slices=1):
    several = {"num_slices": slices} if slices > 1 else {}
    devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **several).devices
    grid = np.array(sorted(devices, key=lambda d: (getattr(d, "slice_index", 0), d.id))).reshape(slices, -1)
    return Mesh(grid, ("slice", "data"), axis_types=(AxisType.Auto,) * 2)


def loss(weights, x):
    """One block applied LAYERS times."""

    def block(x, _):
        hidden = jax.nn.gelu(x @ weights[0].astype(jnp.bfloat16))
        return x + hidden @ weights[1].astype(jnp.bfloat16), None

    return (jax.lax.scan(block, x, None, length=LAYERS)[0].astype(jnp.float32) ** 2).sum()


def arguments(mesh, weight_spec, rows=ROWS, width=(D, F)):
    place = lambda *spec: NamedSharding(mesh, P(*spec))  # noqa: E731
    weights = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place(*weight_spec)) for shape in (width, width[::-1])]
    x = jax.ShapeDtypeStruct((mesh.size * rows, width[0]), jnp.bfloat16, sharding=place(("slice", "data")))
    return weights, x


def sharded_by_jit():
    """Plain jit with divided weights: gathers and reduces in every layer, some of them asynchronous."""
    on = mesh("v5e:4x4")
    weights, x = arguments(on, ("data",))
    return jax.jit(jax.grad(loss), out_shardings=[leaf.sharding for leaf in weights]).lower(weights, x)


def gathered_once():
    """shard_map over the data axis, two micro-batches: nothing in a loop."""
    on = mesh("v5e:4x4")

    def local(weights, x):
        whole = [jax.lax.all_gather(w.astype(jnp.bfloat16), "data", tiled=True) for w in weights]
        zeros = [jnp.zeros_like(w) for w in whole]
        add = lambda sums, piece: (jax.tree.map(jnp.add, sums, jax.grad(loss)(whole, piece)), None)  # noqa: E731
        grads, _ = jax.lax.scan(add, zeros, x.reshape(2, -1, D))
        return [jax.lax.psum_scatter(g.astype(jnp.float32), "data", tiled=True) for g in grads]

    specs = (P("data"), P(("slice", "data")))
    return jax.jit(jax.shard_map(local, mesh=on, in_specs=specs, out_specs=P("data"), check_vma=False)).lower(
        *arguments(on, ("data",))
    )


def two_slices():
    """One sum over two slices of four chips: scattered within, sent across, gathered within."""
    on = mesh("v5e:2x2", 2)

    def local(weights, x):
        return jax.lax.psum(jax.grad(loss)(weights, x), ("slice", "data"))

    specs = (P(), P(("slice", "data")))
    return jax.jit(jax.shard_map(local, mesh=on, in_specs=specs, out_specs=P(), check_vma=False)).lower(
        *arguments(on, ())
    )


def windowed():
    """Rows and weights divided along the same axis, and large: XLA cuts the product into a ring of permutes."""
    on = mesh("v5e:4x4")
    place = lambda *spec: NamedSharding(on, P(*spec))  # noqa: E731
    x = jax.ShapeDtypeStruct((16 * 2048, 4096), jnp.bfloat16, sharding=place("data"))
    w = jax.ShapeDtypeStruct((4096, 16384), jnp.bfloat16, sharding=place(None, "data"))
    return jax.jit(lambda x, w: x @ w, out_shardings=place(None, "data")).lower(x, w)


def trimmed(text):
    """Without source tables, metadata and what the backend notes for itself."""
    text = re.sub(r"\n(?:FileNames|FunctionNames|FileLocations|StackFrames)\n(?:\d.*\n)+", "\n", text)
    text = re.sub(r", (?:metadata|backend_config)=\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}", "", text)
    text = re.sub(
        r"\{([\d,]*):T\([^)]*\)(?:\([^)]*\))*(S\(\d+\))?\}", lambda f: f"{{{f[1]}:{f[2]}}}" if f[2] else "", text
    )
    text = re.sub(r"input_output_alias=.*?entry_computation_layout=.*?num_partitions", "num_partitions", text, count=1)
    text = re.sub(r"entry_computation_layout=.*?num_partitions", "num_partitions", text, count=1)
    return re.sub(r"\n{3,}", "\n\n", text)


if __name__ == "__main__":
    for make in (sharded_by_jit, gathered_once, two_slices, windowed):
        text = trimmed(make().compile().as_text())
        (Path(__file__).parent / f"{make.__name__}.txt").write_text(text, encoding="utf-8")
        print(make.__name__, len(text))
