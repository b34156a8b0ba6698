"""Compiles the training step without running it, for devices that need not be here, and reads off what it is.

`python -m albert_jax.plan.compile FD` takes jobs on standard input, one JSON line each, and answers on the file
descriptor FD; `albert_jax.plan.workers` starts it.
"""

# In a process of its own, because libtpu prints a lot, takes a lock and lives as long as its process.

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
from albert_jax.engine.assemble import assemble
from albert_jax.engine.state import count
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.plan.hlo import Collective, Loop, collectives, memory_traffic, while_loops
from albert_jax.plan.hlo_text import HloText
from albert_jax.plan.topology import find_topology
from albert_jax.telemetry.throughput import machine_peak, traced_matmul_flops, train_flops_per_token

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Job:
    experiment: Experiment  # its data is not opened
    topology: str  # usual name of a TPU slice, or "" for the devices that are here
    slices: int = 1  # slices of it
    # Compile with the least effort: a fifth of the time, some percent more memory. On one slice the collectives are the
    # same, over several the gradient may be cut in other pieces.
    quick: bool = False
    hlo: str = ""  # file for the compiled program's text; "" writes none


@dataclass(frozen=True)
class Memory:
    """Bytes of one device, as the compiler lays them out."""

    params: int  # float32 parameters, before padding to tiles
    moments: int  # the rest of the state, nearly all of it the optimizer's
    batch: int  # rows of the batch
    arguments: int  # the three together, padded
    total: int  # at the moment when most is in use; what the compiler holds against the limit

    @property
    def within(self) -> int:
        """What lives within the step: activations, gradients, gathered parameters."""
        return max(self.total - self.arguments, 0)


# The names of these fields stand in the files of `plan --json`.
@dataclass(frozen=True)
class Program:
    key: str  # fingerprint of the program before compilation, the topology and the versions of the compilers
    quick: bool  # compiled with the least effort
    device_kind: str  # as JAX names it
    devices: int  # of all slices
    row_groups: int  # parts that the rows of a batch are divided over
    batch_size: int  # examples of a step
    micro_batches: int  # pieces that it is computed in
    remat: str  # as in the model's config
    attention: str  # as in the model's config
    mesh: dict[str, int]  # axis to devices along it
    zero: int  # as in the mesh's config
    length: int  # pieces in an example (S)
    predictions: int  # prediction slots of an example (P)
    vocab_size: int  # V
    assumed_vocabulary: bool  # the config leaves V to the data, and `tasks.pretrain.VOCABULARY` stands in for it
    parameters: int  # numbers in the model
    updated: int  # parameters that one device updates
    model_flops: float  # of a step on all devices, by formula
    program_flops: float  # matrix products of the traced program, remat included
    memory: Memory  # of one device; where the program does not fit, what the compiler says it would need
    limit: float  # bytes that a program may use on one device; 0 where not known
    fits: bool  # whether the compiler accepted it
    collectives: tuple[Collective, ...]  # what crosses the network; like the next two nothing where it does not fit
    loops: tuple[Loop, ...]
    traffic: int  # bytes between one device and its memory in a step; see `hlo.memory_traffic`
    table: tuple[tuple[str, str, str, int, int], ...]  # path, shape, spec, bytes of parameter and moments on a device
    peak: float  # FLOP/s of all devices measured here, for a CPU; 0 otherwise
    seconds: float  # that compiling took

    @property
    def rows(self) -> int:
        """Examples of a step in one device's row group."""
        return self.batch_size // self.row_groups

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Program":
        """The inverse of `dataclasses.asdict`, after a way through JSON."""
        parts = {
            "memory": Memory(**value["memory"]),
            "collectives": tuple(Collective(**each) for each in value["collectives"]),
            "loops": tuple(Loop(**each) for each in value["loops"]),
            "table": tuple(tuple(row) for row in value["table"]),
        }
        return cls(**(value | parts))


def compile_step(job: Job, known: frozenset[str] = frozenset()) -> Program | str:
    """Compiles the job's training step in this process. A program whose key is in `known` is not compiled again: the
    key is returned.

    Raises AlbertError for a task that cannot be built without its data, for a mesh or batch that does not divide, and
    when libtpu is missing or busy. A program that needs too much memory is no error.
    """
    experiment = job.experiment.check()
    task = experiment.task.objective(experiment.model)
    topology = find_topology(job.topology, job.slices) if job.topology else None
    devices = topology.open() if topology else jax.devices()
    assembly = assemble(
        task, experiment.optim, experiment.mesh, steps=experiment.steps, batch_size=experiment.batch_size,
        micro_batches=experiment.micro_batches, seed=experiment.seed, devices=devices,
    )  # fmt: skip
    layout, state = assembly.layout, assembly.abstract_state()
    batch = {
        name: jax.ShapeDtypeStruct((experiment.batch_size, *array.shape[1:]), array.dtype, sharding=layout.rows)
        for name, array in task.example_batch(1).items()
    }
    traced = assembly.train_step.trace(state, batch)
    lowered = traced.lower()
    # Compiling is most of the time, so the key is that of the program before it: its text has the shapes, the shardings
    # and all options of the step in it, but not the compiler.
    versions = [jax.__version__, devices[0].client.platform_version]
    parts = [lowered.as_text(), job.topology, str(job.slices), str(job.quick), *versions]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    if key in known:
        return key

    # ---- compile: a program that needs too much memory is a result, with what the compiler says it would need
    start, compiled, needed = time.perf_counter(), None, 0
    try:
        compiled = lowered.compile({"exec_time_optimization_effort": -1.0} if job.quick else {})
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = needed_bytes(str(error))
    seconds = time.perf_counter() - start
    program = HloText(compiled.as_text()) if compiled else None
    if job.hlo and program:
        Path(job.hlo).write_text(program.text, encoding="utf-8")

    # ---- read off what it is
    config, length, predictions = task.config, task.tokens_per_example, task.predictions_per_example
    per_token = train_flops_per_token(config, length, predictions)
    table = tuple(layout.table())
    chip = topology.chip if topology else None
    limit = chip.memory / chip.devices if chip else (devices[0].memory_stats() or {}).get("bytes_limit", 0)
    return Program(
        key=key,
        quick=job.quick,
        device_kind=devices[0].device_kind,
        devices=layout.mesh.size,
        row_groups=layout.row_groups,
        batch_size=experiment.batch_size,
        micro_batches=experiment.micro_batches,
        remat=config.remat,
        attention=config.attention,
        mesh=dict(layout.mesh.shape),
        zero=experiment.mesh.zero,
        length=length,
        predictions=predictions,
        vocab_size=config.vocab_size,
        assumed_vocabulary=not experiment.model.vocab_size,
        parameters=count(state.params),
        updated=sum(row[4] for row in table) // 8,  # two float32 moments each
        model_flops=per_token * experiment.batch_size * length,
        program_flops=float(traced_matmul_flops(traced.jaxpr.jaxpr)),
        memory=_memory(compiled, state, batch, needed),
        limit=limit,
        fits=compiled is not None,
        collectives=tuple(collectives(program)) if program else (),
        loops=tuple(while_loops(program)) if program else (),
        traffic=memory_traffic(program) if program else 0,
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


def serve(answers: int) -> None:
    """Answers a line on the file descriptor for each job line on standard input, until that ends."""
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        for line in sys.stdin:
            try:
                request = json.loads(line)
                # A user's own kind of task or optimizer is found among the classes that this process knows.
                if request["own_config"]:
                    experiments.import_config(Path(request["own_config"]))
                experiment = experiments.from_dict(Experiment, request["job"].pop("experiment"))
                made = compile_step(Job(experiment, **request["job"]), frozenset(request["known"]))
                answer = {"known": made} if isinstance(made, str) else {"program": dataclasses.asdict(made)}
            except AlbertError as error:
                answer = {"error": str(error)}
            except Exception:  # a bug of ours or the compiler's: its traceback is for whoever asked
                answer = {"failure": traceback.format_exc()}
            print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
