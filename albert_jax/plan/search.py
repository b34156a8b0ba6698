"""What else could be run: the largest batch that fits, what would make a program fit, the best of many settings.

All of it compiles with the least effort (`Job.quick`), which takes a fifth of the time. Such programs take as much
memory or a little more, and move more of it, so their times compare only with each other.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from albert_jax.engine.sharding import DATA, FSDP, TENSOR, MeshConfig, preset
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.plan.compile import Job, Program

Submit = Callable[[Job], "Future[Program]"]
_ROUND = 4  # compilations between two signs of life
TRIES = 4  # compilations that the largest batch may take beyond the first


@dataclass(frozen=True)
class Variant:
    """A change to an experiment, and the program that it gives.

    Attributes:
      flags: the change as words of the command line
      program: compiled with the least effort
      seconds: roofline time of its step
    """

    flags: str
    program: Program
    seconds: float


def with_model(experiment: Experiment, **changes: Any) -> Experiment:
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, **changes))


def largest_batch(submit: Submit, job: Job, until: float = math.inf) -> tuple[Program | None, bool]:
    """The program of the largest global batch that fits with the job's mesh, remat and number of micro-batches, and
    whether it is known that one more row does not. None when not one row a device and micro-batch fits, or the memory
    of the device is not known.

    Memory is nearly a line in the rows of a micro-batch, so a few compilations find the last row that fits; past TRIES,
    or past `until` of `time.monotonic`, the best so far is taken.
    """
    first = submit(dataclasses.replace(job, quick=True, hlo="")).result()
    if not first.limit:
        return None, False
    unit = first.row_groups * first.micro_batches
    made = {first.batch_size // unit: first}
    for _ in range(TRIES):
        low = max((rows for rows in made if made[rows].fits), default=0)
        high = min((rows for rows in made if not made[rows].fits), default=0)
        if high == low + 1 or time.monotonic() > until:
            break
        guess = _guess(made, low, high)
        asked = dataclasses.replace(job.experiment, batch_size=guess * unit)
        made[guess] = submit(dataclasses.replace(job, experiment=asked, quick=True, hlo="")).result()
    low = max((rows for rows in made if made[rows].fits), default=0)
    return made.get(low), low + 1 in made


def _guess(made: dict[int, Program], low: int, high: int) -> int:
    """Rows to try next, between `low`, which fit, and `high`, which do not (0: none known); by a line through the two
    programs nearest to the limit."""
    sizes = {rows: program.memory.total for rows, program in made.items()}
    limit = next(iter(made.values())).limit
    near = sorted(sizes, key=lambda rows: abs(sizes[rows] - limit))[:2]
    if len(near) == 1:
        only = made[near[0]]
        fixed: float = only.memory.arguments + 4 * only.parameters  # the whole gradient beside the arguments
        slope = max(sizes[near[0]] - fixed, 1) / near[0]
    else:
        slope = (sizes[near[0]] - sizes[near[1]]) / (near[0] - near[1]) or 1.0
        fixed = sizes[near[0]] - slope * near[0]
    guess = int((limit - fixed) / slope)
    return max(low + 1, min(guess, high - 1 if high else guess), 1)


def remedies(
    submit: Submit, job: Job, program: Program, largest: Program | None, seconds: Callable[[Program], float]
) -> list[Variant]:
    """Changes after which the job's program fits, fastest step first: more micro-batches, more remat, attention that
    keeps no scores, a divided optimizer state; one that is not enough alone is tried with more micro-batches too."""
    experiment, model = job.experiment, job.experiment.model
    asked: list[tuple[str, Experiment, int]] = []
    if largest is not None:
        most = largest.rows // largest.micro_batches
        rows = program.rows
        pieces = next((n for n in range(1, rows + 1) if rows % n == 0 and rows // n <= most), 0)
        if pieces > program.micro_batches:
            asked.append(("", experiment, pieces))
    for remat in {"none": ("dots", "full"), "dots": ("full",), "full": ()}[model.remat]:
        asked.append((f"--model.remat {remat}", with_model(experiment, remat=remat), program.micro_batches))
    if job.topology and model.attention == "xla" and not model.attention_dropout:
        asked.append(("--model.attention splash", with_model(experiment, attention="splash"), program.micro_batches))
    divides = program.mesh[FSDP] == 1 and program.mesh[DATA] % 8 == 0
    if divides and program.memory.moments > 0.05 * program.limit:
        mesh = preset("zero1", fsdp=8, tensor=program.mesh[TENSOR])
        words = f"--mesh.zero 1 --mesh.shape '{json.dumps(mesh.shape)}'"
        asked.append((words, dataclasses.replace(experiment, mesh=mesh), program.micro_batches))
    found: list[Variant] = []
    for _ in range(2):
        more = []
        for words, changed, pieces, made in _compile_all(submit, job, asked):
            if made.fits:
                divided = f"--micro-batches {pieces}" if pieces != program.micro_batches else ""
                found.append(Variant(f"{words} {divided}".strip(), made, seconds(made)))
            elif pieces := _more_pieces(made, pieces):
                more.append((words, changed, pieces))
        asked = more
    return sorted(found, key=lambda variant: variant.seconds)


def _compile_all(
    submit: Submit, job: Job, asked: list[tuple[str, Experiment, int]]
) -> list[tuple[str, Experiment, int, Program]]:
    """Quick programs of (words, experiment, micro-batches), without those whose heads or rows do not divide."""
    pending = []
    for _, changed, pieces in asked:
        divided = dataclasses.replace(changed, micro_batches=pieces)
        pending.append(submit(dataclasses.replace(job, experiment=divided, quick=True, hlo="")))
    made = []
    for (words, changed, pieces), future in zip(asked, pending, strict=True):
        with contextlib.suppress(AlbertError):
            made.append((words, changed, pieces, future.result()))
    return made


def candidates(experiment: Experiment, devices: int, slices: int) -> Iterator[tuple[str, Experiment]]:
    """Meshes x remat as (words of the command line, experiment): the configured mesh, copies everywhere, the state or
    the parameters too divided by 8, blocks divided by 2."""
    inside = devices // slices
    meshes = {"": experiment.mesh}
    for name, fsdp, tensor in (("data", 1, 1), ("zero1", 8, 1), ("zero3", 8, 1), ("data", 1, 2)):
        mesh = preset(name, fsdp=fsdp, tensor=tensor)
        if inside % (fsdp * tensor) == 0 and not _same(mesh, experiment.mesh, devices, slices):
            shape = {DATA: -1} | ({FSDP: fsdp} if fsdp > 1 else {}) | ({TENSOR: tensor} if tensor > 1 else {})
            zero = f"--mesh.zero {mesh.zero} " if fsdp > 1 else ""
            meshes[f"{zero}--mesh.shape '{json.dumps(shape)}' "] = mesh
    for words, mesh in meshes.items():
        for remat in ("none", "dots", "full"):
            yield f"{words}--model.remat {remat}", dataclasses.replace(with_model(experiment, remat=remat), mesh=mesh)


def _same(one: MeshConfig, other: MeshConfig, devices: int, slices: int) -> bool:
    sizes = one.sizes(devices, slices)
    return sizes == other.sizes(devices, slices) and (sizes[FSDP] == 1 or one.zero == other.zero)


def search(
    submit: Submit, job: Job, devices: int, limit: int, seconds: Callable[[Program], float],
    progress: Callable[[int, str], None],
) -> list[Variant]:  # fmt: skip
    """The settings that fit, fastest first by roofline. For each mesh and remat the least number of micro-batches that
    fits: more of them only re-read the weights. At most `limit` compilations; `progress(done, what)` is told of each.
    """
    found: list[Variant] = []
    done = 0
    # Every candidate starts whole; one that does not fit comes back with its rows divided.
    waiting = [(words, changed, 1) for words, changed in candidates(job.experiment, devices, job.slices)]
    while waiting and done < limit:
        asked, waiting = waiting[: min(_ROUND, limit - done)], waiting[min(_ROUND, limit - done) :]
        for words, changed, pieces, made in _compile_all(submit, job, asked):
            if made.fits:
                found.append(Variant(f"{words} --micro-batches {pieces}", made, seconds(made)))
            elif more := _more_pieces(made, pieces):
                waiting.append((words, changed, more))
        done += len(asked)
        progress(done, asked[-1][0])
    return sorted(found, key=lambda variant: variant.seconds)


def _more_pieces(program: Program, pieces: int) -> int:
    """A number of micro-batches that may fit where `pieces` did not; 0 when the rows cannot be divided further."""
    over = program.memory.total / program.limit if program.limit else 2.0
    least = max(pieces + 1, math.ceil(pieces * over))
    return next((n for n in range(least, program.rows + 1) if program.rows % n == 0), 0)
