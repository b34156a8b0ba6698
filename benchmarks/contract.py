"""One trip over the network, read from programs compiled for TPU slices that are not here.

    python -m benchmarks.contract                    # all sizes, meshes and both slices: about an hour on 2 cores
    python -m benchmarks.contract --sizes base       # a quarter of it
    python -m benchmarks.contract --plain xlarge     # beside plain jit with the same shardings

For each program: collectives executed in a step, those inside a loop, and their bytes as a share of one gather and one
reduction of the float32 parameters (8 bytes each). `tests/engine/test_contract.py` holds a part of it in every test
run and all of it under `launch/test.sh -m slow`. Needs the extra `tpu`.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from albert_jax.engine.sharding import ROWS, MeshConfig
from albert_jax.experiment import Experiment, load_config
from albert_jax.plan.compile import Job, Program
from albert_jax.plan.workers import Compilers
from albert_jax.telemetry.tables import print_table

CONFIGS = Path(__file__).parents[1] / "configs"
SIZES = ("base", "large", "xlarge", "xxlarge")
MESHES = {
    "data": MeshConfig(),
    "ZeRO-1": MeshConfig({"data": -1, "fsdp": 8}, zero=1),
    "ZeRO-3": MeshConfig({"data": -1, "fsdp": 8}, zero=3),
}
TOPOLOGIES = ("v5e-256", "v6e-256")


def experiment(size: str, mesh: str, layers: int = 0, micro_batches: int = 1) -> Experiment:
    """A pretraining config on a mesh, at another depth or number of micro-batches."""
    base = load_config(CONFIGS / f"pretrain_{size}.py")
    model = dataclasses.replace(base.model, layers=layers or base.model.layers)
    return dataclasses.replace(base, model=model, mesh=MESHES[mesh], micro_batches=micro_batches)


def job(size: str, mesh: str, topology: str, layers: int = 0, micro_batches: int = 1, quick: bool = True) -> Job:
    """`quick` compiles with the least effort, in a fifth of the time; it gathers float32 where the full effort finds
    that bfloat16 will do, and is alike in everything else."""
    return Job(experiment(size, mesh, layers, micro_batches), topology, quick=quick)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives that one step executes on one device."""

    executed: int
    in_loops: int
    bytes: int
    parameters: int

    @property
    def share(self) -> float:
        """Of gathering and reducing every float32 parameter once."""
        return self.bytes / (8 * self.parameters)


def traffic(collectives: Any, parameters: int) -> Traffic:
    return Traffic(
        sum(each.executed for each in collectives),
        sum(each.executed for each in collectives if each.in_loop),
        sum(each.executed * each.bytes for each in collectives),
        parameters,
    )


def of_program(program: Program) -> Traffic:
    return traffic(program.collectives, program.parameters)


def row(name: str, found: Traffic) -> tuple[str, ...]:
    return (name, str(found.executed), str(found.in_loops), f"{found.bytes / 1e6:,.1f}", f"{found.share:.2f}")


HEAD = ("program", "collectives", "in loops", "MB", "of gather + reduce")


def table(sizes: list[str], topologies: list[str]) -> None:
    """Every mesh, two depths and two numbers of micro-batches."""
    variants = ((0, 1), (24, 1), (0, 4))
    cases = [(t, s, m, *v) for t in topologies for s in sizes for m in MESHES for v in variants]
    with Compilers() as compilers:
        pending = [(case, compilers.submit(job(*case[1:3], case[0], *case[3:]))) for case in cases]
        rows = []
        for (topology, size, mesh, layers, micro), future in pending:
            depth = f", {layers} layers" if layers else ""
            pieces = f", {micro} micro-batches" if micro > 1 else ""
            rows.append(row(f"{topology} {size} {mesh}{depth}{pieces}", of_program(future.result())))
            print(*rows[-1], file=sys.stderr)
    print_table("albert_jax: batch 4096 x 512", HEAD, rows)


# ---- plain jit, for comparison: the same parameters, shardings and loss, the collectives left to the compiler


def compile_plain(size: str, mesh: str, topology: str, constrained: bool, quick: bool) -> Traffic:
    """Forward, backward and LAMB under `jax.jit` with the shardings of `mesh`, hidden states divided by rows where
    `constrained`; in a process of its own. `quick` as in `job`."""
    import jax
    import jax.numpy as jnp
    import optax

    from albert_jax.engine.state import abstract_params, abstract_state, bind, count, definition, lay_out, shardings
    from albert_jax.model.layers import shard_activations
    from albert_jax.plan.hlo import collectives
    from albert_jax.plan.topology import find_topology
    from albert_jax.tasks.pretrain import PretrainObjective, random_batch

    made = experiment(size, mesh)
    model = dataclasses.replace(made.model, vocab_size=30_000)
    task = PretrainObjective(model, made.task.max_length, made.task.masks.slots(made.task.max_length))  # type: ignore
    layout = lay_out(task, made.mesh, find_topology(topology).open())
    optimizer = made.optim.build(made.steps, abstract_params(task))
    state, graph = abstract_state(task, optimizer, layout), definition(task)

    def step(state: Any, batch: Any) -> Any:
        weights = {name: jnp.maximum(weight, 1.0) for name, weight in task.weights(batch).items()}

        def loss(params: Any) -> jax.Array:
            with shard_activations({"batch": ROWS} if constrained else {}):
                sums, _ = task.sums(bind(graph, params), batch, None)
            return sum(sums[name][0] / weights[sums[name][1]] for name in task.losses)  # type: ignore[return-value]

        grads = jax.grad(loss)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        new = state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)
        return jax.tree.map(jax.lax.with_sharding_constraint, new, shardings(new, layout))

    rows = random_batch(model, 1, task.tokens_per_example, task.predictions_per_example)
    batch = {
        name: jax.ShapeDtypeStruct((made.batch_size, *x.shape[1:]), x.dtype, sharding=layout.rows)
        for name, x in rows.items()
    }
    with jax.set_mesh(layout.mesh):
        lowered = jax.jit(step, donate_argnums=0).lower(state, batch)
    options = {"exec_time_optimization_effort": -1.0} if quick else {}
    compiled = lowered.compile(compiler_options=options)  # type: ignore[arg-type]
    return traffic(collectives(compiled.as_text()), count(state.params))


def plain(size: str, mesh: str, topology: str, constrained: bool = True, quick: bool = False) -> Traffic:
    """`compile_plain` in a quiet process."""
    said = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | said
    call = f"compile_plain({size!r}, {mesh!r}, {topology!r}, {constrained}, {quick})"
    code = (
        "import dataclasses, json; from benchmarks.contract import compile_plain; "
        f"print('PLAIN', json.dumps(dataclasses.asdict({call})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=CONFIGS.parent, env=environment, capture_output=True, text=True
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("PLAIN ")]
    if not lines:
        raise RuntimeError(f"compiling plain jit failed:\n{ran.stderr[-2000:]}")
    return Traffic(**json.loads(lines[-1].removeprefix("PLAIN ")))


def beside_plain(sizes: list[str], topology: str, mesh: str = "ZeRO-3") -> None:
    rows = []
    with Compilers(count=1) as compilers:
        for size in sizes:
            ours = of_program(compilers.submit(job(size, mesh, topology, quick=False)).result())
            rows.append(row(f"{size}, albert_jax", ours))
            for constrained in (True, False):
                theirs = plain(size, mesh, topology, constrained)
                name = (
                    f"{size}, plain jit, hidden states {'divided by rows' if constrained else 'left to the compiler'}"
                )
                rows.append(row(name, theirs))
                rows.append(
                    ("  ratio", f"{theirs.executed / ours.executed:.1f}", "", f"{theirs.bytes / ours.bytes:.1f}", "")
                )
    print_table(f"{topology}, {mesh} ({MESHES[mesh].shape}), batch 4096 x 512", HEAD, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--topologies", nargs="+", default=list(TOPOLOGIES))
    parser.add_argument("--plain", nargs="+", choices=SIZES, help="sizes to compare with plain jit, on the first slice")
    asked = parser.parse_args()
    if asked.plain:
        beside_plain(asked.plain, asked.topologies[0])
    else:
        table(asked.sizes, asked.topologies)


if __name__ == "__main__":
    main()
