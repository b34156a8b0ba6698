"""Know before you pay: whether a training step fits on a TPU slice that you do not have, how fast it can be, and what
else could be run: the largest batch that fits, what would make a program fit, the best of many settings."""

# All but the program that was asked for is compiled with the least effort (`Job.quick`), in a fifth of the time. Such
# programs take as much memory or a little more, and move more of it, so their times compare only with each other.

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from albert_jax.engine.sharding import DATA, FSDP, TENSOR, MeshConfig, preset
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.plan.compile import Job, Program
from albert_jax.plan.roofline import Plan, Variant, plan_of, program_time
from albert_jax.plan.topology import find_topology
from albert_jax.plan.workers import Compilers

Submit = Callable[[Job], "Future[Program]"]
_ROUND = 4  # compilations between two signs of life
TRIES = 4  # compilations that the largest batch may take beyond the first


def plan(
    experiment: Experiment, topology: str = "", slices: int = 1, *, hlo: str = "", with_remedies: bool = True,
    search_limit: int = 0, patience: float = math.inf, known: dict[str, Program] | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Plan:  # fmt: skip
    """Compiles the experiment's training step for `topology` and works out what follows.

    `known` holds programs that need no compiling; new ones join it. `search_limit` > 0 tries so many other settings.
    After `patience` seconds no further program is compiled for the largest batch.

    Raises AlbertError as `compile_step` does, and for an unknown topology.
    """
    until = time.monotonic() + patience
    # A task that cannot be built without its data is refused before a process starts.
    experiment.check().task.objective(experiment.model)
    where = find_topology(topology, slices) if topology else None
    if where is None and slices > 1:
        raise AlbertError(f"--slices {slices} needs a --topology, such as v5e-256")
    job = Job(experiment, where.name if where else "", slices, hlo=str(Path(hlo).resolve()) if hlo else "")

    def seconds(program: Program) -> float:
        found = program_time(program, where)[0]
        return found.total if found else math.inf

    largest, exact = None, False
    with Compilers(known=known) as compilers:
        progress(f"compiling {experiment.name} for {where or 'the devices here'}")
        pending = compilers.submit(job)
        # Beside it, on another core. What the largest batch is refused for, the program itself is refused for too.
        if where:
            with contextlib.suppress(AlbertError):
                largest, exact = largest_batch(compilers.submit, job, until)
        made = plan_of(experiment, pending.result(), where)
        if not made.program.fits and with_remedies:
            progress("it does not fit: trying what would")
            found = remedies(compilers.submit, job, made.program, largest, seconds)
            made = dataclasses.replace(made, remedies=tuple(found[:3]))
        if search_limit:
            report = lambda done, what: progress(f"search {done} of at most {search_limit}: {what}")  # noqa: E731
            found = search(compilers.submit, job, made.program.devices, search_limit, seconds, report)
            made = dataclasses.replace(made, found=tuple(found))
    return dataclasses.replace(made, largest=largest, largest_exact=exact)


def largest_batch(submit: Submit, job: Job, until: float = math.inf) -> tuple[Program | None, bool]:
    """The program of the largest global batch that fits with the job's mesh, remat and number of micro-batches, and
    whether it is known that one more row does not. None when not one row a device and micro-batch fits, or the memory
    of the device is not known."""
    # The best so far after TRIES compilations, or past `until` of `time.monotonic`.
    first = submit(dataclasses.replace(job, quick=True, hlo="")).result()
    if not first.limit:
        return None, False
    unit = first.row_groups * first.micro_batches
    # Memory is nearly a line in the rows of a micro-batch, so a few guesses find the last that fits.
    made = {first.batch_size // unit: first}  # by rows of a device and micro-batch
    for _ in range(TRIES):
        low, high = _bracket(made)
        if high == low + 1 or time.monotonic() > until:
            break
        guess = _guess(made, low, high)
        asked = dataclasses.replace(job.experiment, batch_size=guess * unit)
        made[guess] = submit(dataclasses.replace(job, experiment=asked, quick=True, hlo="")).result()
    low, _ = _bracket(made)
    return made.get(low), low + 1 in made


def _bracket(made: dict[int, Program]) -> tuple[int, int]:
    """The most rows that are known to fit, and the least that are known not to (0: none known)."""
    low = max((rows for rows, program in made.items() if program.fits), default=0)
    return low, min((rows for rows, program in made.items() if not program.fits), default=0)


def _guess(made: dict[int, Program], low: int, high: int) -> int:
    """Rows to try next between `low` and `high`, by a line through the two programs nearest to the limit."""
    sizes = {rows: program.memory.total for rows, program in made.items()}
    limit = next(iter(made.values())).limit
    near = sorted(sizes, key=lambda rows: abs(sizes[rows] - limit))[:2]
    # One program alone makes no line: what does not grow with the rows is taken to be arguments and a whole gradient.
    if len(near) == 1:
        only = made[near[0]]
        fixed: float = only.memory.arguments + 4 * only.parameters
        slope = max(sizes[near[0]] - fixed, 1) / near[0]
    else:
        slope = (sizes[near[0]] - sizes[near[1]]) / (near[0] - near[1]) or 1.0
        fixed = sizes[near[0]] - slope * near[0]
    guess = int((limit - fixed) / slope)
    return max(low + 1, min(guess, high - 1 if high else guess), 1)


# ---- other settings, each as (words of the command line that give it, experiment)


def remedies(
    submit: Submit, job: Job, program: Program, largest: Program | None, seconds: Callable[[Program], float]
) -> list[Variant]:
    """Changes after which the job's program fits, fastest step first: more micro-batches, more remat, attention that
    keeps no scores, a divided optimizer state; one that is not enough alone is tried with more micro-batches too."""
    experiment, model = job.experiment, job.experiment.model
    settings: list[tuple[str, Experiment]] = []
    if largest is not None:
        most = largest.rows // largest.micro_batches
        pieces = next((n for n in range(1, program.rows + 1) if program.rows % n == 0 and program.rows // n <= most), 0)
        if pieces > program.micro_batches:
            settings.append(("", dataclasses.replace(experiment, micro_batches=pieces)))
    for remat in {"none": ("dots", "full"), "dots": ("full",), "full": ()}[model.remat]:
        settings.append((f"--model.remat {remat}", _with_model(experiment, remat=remat)))
    if job.topology and model.attention == "xla" and not model.attention_dropout:
        settings.append(("--model.attention splash", _with_model(experiment, attention="splash")))
    # An optimizer state below a twentieth of the memory is not worth another mesh.
    divides = program.mesh[FSDP] == 1 and program.mesh[DATA] % 8 == 0
    if divides and program.memory.moments > 0.05 * program.limit:
        mesh = preset("zero1", fsdp=8, tensor=program.mesh[TENSOR])
        flags = f"--mesh.zero 1 --mesh.shape '{json.dumps(mesh.shape)}'"
        settings.append((flags, dataclasses.replace(experiment, mesh=mesh)))
    found, more = _compile_all(submit, job, settings, seconds)
    found += _compile_all(submit, job, more, seconds)[0]
    return sorted(found, key=lambda variant: variant.seconds)


def search(
    submit: Submit, job: Job, devices: int, limit: int, seconds: Callable[[Program], float],
    progress: Callable[[int, str], None],
) -> list[Variant]:  # fmt: skip
    """The settings that fit, fastest first by roofline, after at most `limit` compilations: meshes x remat, each with
    the least number of micro-batches that fits. `progress(done, flags)` is called after some of them."""
    found: list[Variant] = []
    done = 0
    # Every candidate starts whole; one that does not fit comes back with its rows divided. More micro-batches than that
    # only re-read the weights.
    waiting = list(candidates(dataclasses.replace(job.experiment, micro_batches=1), devices, job.slices))
    while waiting and done < limit:
        size = min(_ROUND, limit - done, len(waiting))
        asked, waiting = waiting[:size], waiting[size:]
        fitting, more = _compile_all(submit, job, asked, seconds)
        found, waiting, done = found + fitting, waiting + more, done + size
        progress(done, asked[-1][0])
    return sorted(found, key=lambda variant: variant.seconds)


def candidates(experiment: Experiment, devices: int, slices: int) -> Iterator[tuple[str, Experiment]]:
    """Meshes x remat: the configured mesh, copies everywhere, the state or the parameters too divided by 8, blocks
    divided by 2."""
    meshes = {"": experiment.mesh}
    for name, fsdp, tensor in (("data", 1, 1), ("zero1", 8, 1), ("zero3", 8, 1), ("data", 1, 2)):
        mesh = preset(name, fsdp=fsdp, tensor=tensor)
        if devices // slices % (fsdp * tensor) == 0 and not _same(mesh, experiment.mesh, devices, slices):
            shape = {axis: size for axis, size in mesh.shape.items() if size != 1}
            zero = f"--mesh.zero {mesh.zero} " if fsdp > 1 else ""
            meshes[f"{zero}--mesh.shape '{json.dumps(shape)}' "] = mesh
    for flags, mesh in meshes.items():
        for remat in ("none", "dots", "full"):
            yield f"{flags}--model.remat {remat}", dataclasses.replace(_with_model(experiment, remat=remat), mesh=mesh)


def _same(one: MeshConfig, other: MeshConfig, devices: int, slices: int) -> bool:
    sizes = one.sizes(devices, slices)
    return sizes == other.sizes(devices, slices) and (sizes[FSDP] == 1 or one.zero == other.zero)


def _with_model(experiment: Experiment, **changes: Any) -> Experiment:
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, **changes))


def _compile_all(
    submit: Submit, job: Job, settings: Sequence[tuple[str, Experiment]], seconds: Callable[[Program], float]
) -> tuple[list[Variant], list[tuple[str, Experiment]]]:
    """The settings that fit, and those that may fit with more micro-batches, so many set."""
    pending = [submit(dataclasses.replace(job, experiment=each, quick=True, hlo="")) for _, each in settings]
    found, more = [], []
    for (flags, experiment), future in zip(settings, pending, strict=True):
        with contextlib.suppress(AlbertError):  # heads or rows that do not divide
            program = future.result()
            if program.fits:
                changed = program.micro_batches != job.experiment.micro_batches
                pieces = f" --micro-batches {program.micro_batches}" if changed else ""
                found.append(Variant(f"{flags}{pieces}".strip(), program, seconds(program)))
            elif further := _more_pieces(program):
                more.append((flags, dataclasses.replace(experiment, micro_batches=further)))
    return found, more


def _more_pieces(program: Program) -> int:
    """Micro-batches with which a program may fit that does not; 0 when its rows cannot be divided further."""
    over = program.memory.total / program.limit if program.limit else 2.0
    least = max(program.micro_batches + 1, math.ceil(program.micro_batches * over))
    return next((n for n in range(least, program.rows + 1) if program.rows % n == 0), 0)
