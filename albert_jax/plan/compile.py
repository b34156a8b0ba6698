"""Compiles the training step without running it, for devices that need not be here, and reads off what it is.

libtpu talks a lot, takes a lock and lives as long as its process, so this runs in a process of its own:
`python -m albert_jax.plan.compile FD` takes jobs on standard input, one JSON line each, and answers on the file
descriptor FD.
`albert_jax.plan.plan` starts it.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from albert_jax import experiment as experiments
from albert_jax.engine.state import abstract_params, abstract_state, count, lay_out
from albert_jax.engine.step import make_train_step
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.plan.hlo import Collective, Loop, collectives, memory_traffic, while_loops
from albert_jax.plan.hlo_text import HloText
from albert_jax.plan.topology import find_topology
from albert_jax.tasks import Pretrain
from albert_jax.tasks.pretrain import PretrainObjective, random_batch
from albert_jax.telemetry.throughput import machine_peak, traced_matmul_flops, train_flops_per_token

VOCABULARY = 30_000  # pieces, where the config leaves them to data that is not asked for here
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Job:
    """What to compile.

    Attributes:
      experiment: the run; its data is not opened
      topology: usual name of a TPU slice, or "" for the devices that are here
      slices: slices of it
      quick: compile with the least effort: a fifth of the time, some percent more memory; on one slice the same
        collectives, while over several the gradient may be cut in other pieces
      hlo: file for the compiled program's text; "" writes none
    """

    experiment: Experiment
    topology: str
    slices: int = 1
    quick: bool = False
    hlo: str = ""


@dataclass(frozen=True)
class Memory:
    """Bytes of one device, as the compiler lays them out.

    Attributes:
      params: float32 parameters, before padding to tiles
      moments: the rest of the state, nearly all of it the optimizer's
      batch: rows of the batch
      arguments: the three together, padded
      total: at the moment when most is in use; what the compiler holds against the limit
    """

    params: int
    moments: int
    batch: int
    arguments: int
    total: int

    @property
    def within(self) -> int:
        """What lives within the step: activations, gradients, gathered parameters."""
        return max(self.total - self.arguments, 0)


@dataclass(frozen=True)
class Program:
    """What a compiled training step is.

    Attributes:
      key: fingerprint of the program before compilation, the topology and the versions of the compilers
      quick: compiled with the least effort
      device_kind: as JAX names it
      devices: of all slices
      row_groups: parts that the rows of a batch are divided over
      batch_size: examples of a step
      micro_batches: pieces that it is computed in
      remat: as in the model's config
      attention: as in the model's config
      mesh: axis to devices along it
      zero: as in the mesh's config
      length: pieces in an example (S)
      predictions: prediction slots of an example (P)
      vocab_size: V
      assumed_vocabulary: the config leaves V to the data, and VOCABULARY stands in for it
      parameters: numbers in the model
      updated: parameters that one device updates
      model_flops: of a step on all devices, by formula
      program_flops: matrix products of the traced program, remat included
      memory: of one device; where the program does not fit, what the compiler says it would need
      limit: bytes that a program may use on one device; 0 where not known
      fits: whether the compiler accepted it
      collectives: what crosses the network
      loops: of the program
      traffic: bytes between one device and its memory in a step; see `hlo.memory_traffic`
      table: path, shape, spec, bytes of parameter and of moments on a device
      peak: FLOP/s of all devices measured here, for a CPU; 0 otherwise
      seconds: that compiling took
    """

    key: str
    quick: bool
    device_kind: str
    devices: int
    row_groups: int
    batch_size: int
    micro_batches: int
    remat: str
    attention: str
    mesh: dict[str, int]
    zero: int
    length: int
    predictions: int
    vocab_size: int
    assumed_vocabulary: bool
    parameters: int
    updated: int
    model_flops: float
    program_flops: float
    memory: Memory
    limit: float
    fits: bool
    collectives: tuple[Collective, ...]
    loops: tuple[Loop, ...]
    traffic: int
    table: tuple[tuple[str, str, str, int, int], ...]
    peak: float
    seconds: float

    @property
    def rows(self) -> int:
        """Examples of a step in one device's row group."""
        return self.batch_size // self.row_groups


def program_from_dict(value: dict[str, Any]) -> Program:
    """The inverse of `dataclasses.asdict`, after a way through JSON."""
    parts = {
        "memory": Memory(**value["memory"]),
        "collectives": tuple(Collective(**each) for each in value["collectives"]),
        "loops": tuple(Loop(**each) for each in value["loops"]),
        "table": tuple(tuple(row) for row in value["table"]),
    }
    return Program(**(value | parts))


def objective(experiment: Experiment) -> PretrainObjective:
    """The experiment's task without its data. Raises AlbertError for a task that cannot do without."""
    if not isinstance(experiment.task, Pretrain):
        kind = type(experiment.task).__name__
        raise AlbertError(f"{experiment.name} is a {kind} experiment; plan knows pretraining only")
    task, model = experiment.task, experiment.model
    if not model.vocab_size:
        model = dataclasses.replace(model, vocab_size=VOCABULARY)
    return PretrainObjective(model, task.max_length, task.masks.slots(task.max_length), task.pairs.order != "off")


def compile_step(job: Job, known: frozenset[str] = frozenset()) -> Program | str:
    """Compiles the job's training step in this process. A program whose key is in `known` is not compiled again: the
    key is returned.

    Raises AlbertError for a mesh or batch that does not divide, and when libtpu is missing or busy. A program that
    needs too much memory is no error.
    """
    experiment = job.experiment.check()
    task: Any = objective(experiment)
    topology = find_topology(job.topology, job.slices) if job.topology else None
    devices = topology.open() if topology else jax.devices()
    layout = lay_out(task, experiment.mesh, devices)
    layout.check_batch(experiment.batch_size, experiment.micro_batches)
    schedule = experiment.optim.schedule.build(experiment.optim.peak_lr, experiment.steps)
    optimizer = experiment.optim.build(experiment.steps, abstract_params(task))
    step = make_train_step(
        task, optimizer, schedule, layout, micro_batches=experiment.micro_batches, seed=experiment.seed
    )
    state = abstract_state(task, optimizer, layout)
    example = random_batch(task.config, 1, task.tokens_per_example, task.predictions_per_example)
    batch = {
        name: jax.ShapeDtypeStruct((experiment.batch_size, *array.shape[1:]), array.dtype, sharding=layout.rows)
        for name, array in example.items()
    }
    traced = step.trace(state, batch)
    lowered = traced.lower()
    key = _key(lowered.as_text(), job, devices[0])
    if key in known:
        return key

    start, compiled, needed = time.perf_counter(), None, 0
    try:
        options = {"exec_time_optimization_effort": -1.0} if job.quick else {}
        compiled = lowered.compile(compiler_options=options)  # type: ignore[arg-type]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = needed_bytes(str(error))
    seconds = time.perf_counter() - start
    text = compiled.as_text() if compiled else ""
    parsed = HloText(text) if text else None
    if job.hlo and text:
        Path(job.hlo).write_text(text, encoding="utf-8")

    if topology:
        limit: float = topology.chip.memory / topology.chip.devices
    else:
        limit = (devices[0].memory_stats() or {}).get("bytes_limit", 0)
    table = tuple(layout.table())
    groups = layout.mesh.shape
    per_token = train_flops_per_token(
        task.config, task.tokens_per_example, task.predictions_per_example, task.config.inner_groups
    )
    return Program(
        key=key,
        quick=job.quick,
        device_kind=devices[0].device_kind,
        devices=layout.mesh.size,
        row_groups=layout.row_groups,
        batch_size=experiment.batch_size,
        micro_batches=experiment.micro_batches,
        remat=task.config.remat,
        attention=task.config.attention,
        mesh=dict(groups),
        zero=experiment.mesh.zero,
        length=task.tokens_per_example,
        predictions=task.predictions_per_example,
        vocab_size=task.config.vocab_size,
        assumed_vocabulary=not experiment.model.vocab_size,
        parameters=count(state.params),
        updated=sum(row[4] for row in table) // 8,  # two float32 moments each
        model_flops=per_token * experiment.batch_size * task.tokens_per_example,
        program_flops=float(traced_matmul_flops(traced.jaxpr.jaxpr)),
        memory=_memory(compiled, state, batch, needed),
        limit=limit,
        fits=compiled is not None,
        collectives=tuple(collectives(parsed)) if parsed else (),
        loops=tuple(while_loops(parsed)) if parsed else (),
        traffic=memory_traffic(parsed) if parsed else 0,
        table=table,
        peak=0.0 if topology or devices[0].platform != "cpu" else machine_peak(devices) or 0.0,
        seconds=seconds,
    )


def needed_bytes(message: str) -> int:
    """Bytes that the compiler's RESOURCE_EXHAUSTED message asks for, of its "G" of 2^30; 0 where it does not say."""
    found = re.search(r"(?:HLO temporaries \(|[Uu]sed )([\d.]+)([KMGT]?)\b", message)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def _memory(compiled: Any, state: Any, batch: Any, needed: int) -> Memory:
    params, rows = _bytes(state.params), _bytes(batch)
    moments = _bytes(state) - params
    if compiled is None:
        return Memory(params, moments, rows, params + moments + rows, needed)
    found = compiled.memory_analysis()
    # Not the sum of arguments and temporaries: of those, some live on the chip and some after one another.
    return Memory(params, moments, rows, found.argument_size_in_bytes, found.peak_memory_in_bytes)


def _bytes(tree: Any) -> int:
    """Bytes of a device's part of a tree of ShapeDtypeStructs."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _key(text: str, job: Job, device: Any) -> str:
    said = [text, job.topology, str(job.slices), str(job.quick), jax.__version__, device.client.platform_version]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:24]


# ---- as a process


def serve(answers: int) -> None:
    """Answers a line on the file descriptor for each job line on standard input, until that ends."""
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        for line in sys.stdin:
            try:
                asked = json.loads(line)
                experiment = experiments.from_dict(Experiment, asked["job"].pop("experiment"))
                made = compile_step(Job(experiment, **asked["job"]), frozenset(asked["known"]))
                answer = {"known": made} if isinstance(made, str) else {"program": dataclasses.asdict(made)}
            except AlbertError as error:
                answer = {"error": str(error)}
            except Exception:
                answer = {"failure": traceback.format_exc()}
            out.write(json.dumps(answer) + "\n")
            out.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
