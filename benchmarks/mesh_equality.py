"""Ten training steps on every mesh, micro-batch count and program form, beside the same steps on one device.

    python -m benchmarks.mesh_equality

Float32, dropout on, LAMB, a batch whose parts weigh differently, every tensor divided however small. Prints the largest
relative difference of the ten losses and the largest difference of a parameter after them.
`tests/engine/test_meshes.py` holds both below 1e-5, and adds two processes of four devices.
"""

import dataclasses
import os
from typing import Any

if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import numpy as np

from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import abstract_params, create, lay_out
from albert_jax.engine.step import make_train_step
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.optim import Lamb, Schedule
from albert_jax.tasks.pretrain import PretrainObjective, random_batch
from albert_jax.telemetry.tables import print_table

STEPS, ROWS, LENGTH, PREDICTIONS = 10, 16, 12, 4
MODEL = albert(
    "tiny", vocab_size=64, hidden_size=32, heads=4, feed_forward_size=64, embedding_size=16, layers=3,
    hidden_dropout=0.2, attention_dropout=0.2,
)  # fmt: skip
OPTIM = Lamb(peak_lr=0.02, schedule=Schedule(warmup_steps=2))


@dataclasses.dataclass(frozen=True)
class Case:
    mesh: MeshConfig
    micro_batches: int = 1
    model: AlbertConfig = MODEL


def on(zero: int = 3, **shape: int) -> MeshConfig:
    return MeshConfig(shape, zero=zero, replicate_below=0)  # type: ignore[arg-type]


ONE = MeshConfig(devices=1)
CASES = {
    "1 device": Case(ONE),
    "data 8": Case(on(data=8)),
    "ZeRO-1: fsdp 8": Case(on(1, fsdp=8)),
    "ZeRO-3: fsdp 8": Case(on(fsdp=8)),
    "ZeRO-1: slice 2, data 2, fsdp 2": Case(on(1, slice=2, data=2, fsdp=2)),
    "ZeRO-3: slice 2, data 2, fsdp 2": Case(on(slice=2, data=2, fsdp=2)),
    "data 4, tensor 2": Case(on(data=4, tensor=2)),
    "data 2, tensor 4": Case(on(data=2, tensor=4)),
    "ZeRO-1: data 2, fsdp 2, tensor 2": Case(on(1, data=2, fsdp=2, tensor=2)),
    "ZeRO-3: data 2, fsdp 2, tensor 2": Case(on(data=2, fsdp=2, tensor=2)),
    "1 device, 4 micro-batches": Case(ONE, 4),
    "ZeRO-3: data 2, fsdp 2, tensor 2, 4 micro-batches": Case(on(data=2, fsdp=2, tensor=2), 4),
    "1 device, remat dots": Case(ONE, model=dataclasses.replace(MODEL, remat="dots")),
    "1 device, remat full": Case(ONE, model=dataclasses.replace(MODEL, remat="full")),
    "1 device, loop over layers": Case(ONE, model=dataclasses.replace(MODEL, scan=False)),
}


def batch() -> dict[str, np.ndarray]:
    """Unequal counts of masked positions and of ordered pairs in every part of the batch."""
    made = random_batch(MODEL, ROWS, LENGTH, PREDICTIONS)
    made["masked_weights"][: ROWS // 2, 1:] = 0
    made["order_weight"][:3] = 0
    made["mask"][1, 7:] = False
    return made


def run(case: Case) -> tuple[np.ndarray, Any]:
    """The losses of ten steps and the parameters after them, whole on the host of every process."""
    task = PretrainObjective(case.model, LENGTH, PREDICTIONS)
    layout = lay_out(task, case.mesh)
    optimizer = OPTIM.build(STEPS, abstract_params(task))
    state = create(task, optimizer, 0, layout)
    schedule = OPTIM.schedule.build(OPTIM.peak_lr, STEPS)
    step = make_train_step(task, optimizer, schedule, layout, micro_batches=case.micro_batches)
    rows = layout.process_rows(ROWS)
    data, losses = layout.to_devices({name: array[rows] for name, array in batch().items()}), []
    for _ in range(STEPS):
        state, metrics = step(state, data)
        losses.append(float(metrics["loss"]))
    whole = jax.jit(lambda params: params, out_shardings=layout.replicated)(state.params)
    return np.array(losses), jax.device_get(whole)


def difference(result: tuple[np.ndarray, Any], reference: tuple[np.ndarray, Any]) -> tuple[float, float]:
    """Largest relative difference of a loss, largest difference of a parameter."""
    losses = float(np.max(np.abs(result[0] / reference[0] - 1)))
    pairs = zip(jax.tree.leaves(result[1]), jax.tree.leaves(reference[1]), strict=True)
    return losses, max(float(np.max(np.abs(a - b))) for a, b in pairs)


def main() -> None:
    reference = run(CASES["1 device"])
    rows = []
    for name, case in CASES.items():
        losses, params = difference(run(case), reference)
        rows.append((name, f"{losses:.1e}", f"{params:.1e}"))
    title = f"{STEPS} steps of LAMB, float32, dropout 0.2: loss {reference[0][0]:.4f} to {reference[0][-1]:.4f}"
    print_table(title, ("mesh and program", "loss, relative", "parameter, absolute"), rows)


if __name__ == "__main__":
    main()
