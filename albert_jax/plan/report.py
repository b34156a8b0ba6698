"""The verb `plan`: a plan as tables, as a picture, and as the one line of a program that does not fit."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from albert_jax.cluster.devices import GIB
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.plan.compile import VOCABULARY, Program
from albert_jax.plan.plan import Plan, plan, read_programs, write_json
from albert_jax.plan.search import Variant
from albert_jax.telemetry.charts import Bar, draw_bars
from albert_jax.telemetry.tables import format_count, format_seconds, print_table

UNKNOWN = "unknown device"
PATIENCE = 30.0  # seconds after which the largest batch found so far is good enough


@contextlib.contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """A function that says what is under way, on one line of a terminal that vanishes afterwards; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True).status("plan") as status:
        yield lambda what: status.update(what)


def gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"


def mesh(program: Program) -> str:
    """The mesh's axes that hold more than one device."""
    axes = [f"{axis} {size}" for axis, size in program.mesh.items() if size > 1]
    zero = f" (ZeRO-{program.zero})" if program.mesh["fsdp"] > 1 else ""
    return (", ".join(axes) or "one device") + zero


def setting(program: Program) -> str:
    """What was compiled, in a line."""
    vocabulary = f", vocabulary assumed: {VOCABULARY:,} pieces" if program.assumed_vocabulary else ""
    pieces = f" in {program.micro_batches} micro-batches" if program.micro_batches > 1 else ""
    return (
        f"batch {program.batch_size:,} x {program.length}{pieces}, {mesh(program)}, remat {program.remat}, "
        f"{program.attention} attention{vocabulary}"
    )


def show(plan: Plan, with_params: bool = False) -> None:
    """Prints the plan."""
    program, memory = plan.program, plan.program.memory
    print(f"{plan.name} on {plan.topology}: {verdict(program)}\n{setting(program)}\n")
    rows = [
        ("parameters, float32", gib(memory.params)),
        ("optimizer state", gib(memory.moments)),
        ("batch, and padding of these", gib(memory.arguments - memory.params - memory.moments)),
        ("within the step: activations, gradients", gib(memory.within)),
        ("together, at the fullest moment", gib(memory.total)),
        ("a program may use", gib(program.limit) if program.limit else UNKNOWN),
    ]
    print_table(f"Memory of one of {program.devices:,} devices", ("kind", "bytes"), rows)
    print()
    _show_network(plan)
    print()
    _show_time(plan)
    if plan.remedies:
        print()
        _show_variants("What fits", plan.remedies)
    if plan.found:
        print()
        _show_variants("Settings that fit, fastest first", plan.found)
    if with_params:
        print()
        table = [(path, shape, spec, size, moments) for path, shape, spec, size, moments in program.table]
        print_table("Parameters", ("path", "shape", "spec", "bytes a device", "of its moments"), table)


def verdict(program: Program) -> str:
    if not program.fits:
        return f"does not fit: it needs {gib(program.memory.total)} of {gib(program.limit)} a device"
    if not program.limit:
        return f"takes {gib(program.memory.total)} a device"
    return f"fits: {gib(program.memory.total)} of {gib(program.limit)} a device"


def _show_network(plan: Plan) -> None:
    program = plan.program
    if not program.fits:
        print("Collectives: not known of a program that does not fit")
        return
    groups: dict[tuple[str, str, int, bool, bool], list[int]] = {}
    for each in program.collectives:
        key = (each.kind, each.dtype, each.group, each.in_loop, each.dcn)
        total = groups.setdefault(key, [0, 0])
        total[0] += each.executed
        total[1] += each.executed * each.bytes
    rows = [
        (kind, dtype, "other slices" if dcn else group or "", "yes" if in_loop else "no", count, f"{size / 1e6:,.3f}")
        for (kind, dtype, group, in_loop, dcn), (count, size) in groups.items()
    ]
    inside, outside = plan.network_bytes
    rows.append(("all", "", "", "", sum(row[4] for row in rows), f"{(inside + outside) / 1e6:,.3f}"))
    print_table("Collectives that a step executes", ("kind", "dtype", "among", "in a loop", "times", "MB"), rows)
    loops = ", ".join(f"{loop.trips if loop.trips is not None else '?'} turns" for loop in program.loops)
    windowed = sum(loop.windowed for loop in program.loops)
    print(f"loops: {loops or 'none'}" + (f"; {windowed} of them are windowed matrix products" if windowed else ""))
    if outside:
        print(f"to other slices: {outside / 1e6:,.3f} MB a device and step")


def _show_time(plan: Plan) -> None:
    program, time = plan.program, plan.time
    share = program.model_flops / program.program_flops
    rows = [
        ("model FLOPs of a step", format_count(program.model_flops)),
        ("their share of all matrix products (the rest is remat)", f"{share:.1%}"),
    ]
    if time is None:
        rows.append(("step at best", "not known of a program that does not fit" if not program.fits else UNKNOWN))
    else:
        network = f" (slices {1e3 * plan.network[1]:,.2f})" if plan.network[1] else ""
        rate = plan.tokens_per_step / time.total
        hours = plan.hours or 0.0
        rows += [
            ("compute, ms", f"{1e3 * time.compute:,.2f}"),
            ("memory traffic, ms", f"{1e3 * time.memory:,.2f}"),
            ("network, ms", f"{1e3 * time.network:,.2f}{network}"),
            ("step at best, ms", f"{1e3 * time.total:,.2f} (bound by {time.bound})"),
            ("MFU ceiling", f"{plan.mfu:.1%}"),
            ("tokens/s", f"{rate:,.0f} ({rate / plan.chips:,.0f} a chip)"),
            (f"whole recipe, {plan.steps:,} steps", f"{format_seconds(3600 * hours)} at best"),
            ("chip-hours", f"{hours * plan.chips:,.1f}"),
            ("device-hours", f"{hours * program.devices:,.1f}"),
        ]
    if plan.largest:
        largest = plan.largest
        per = largest.rows // largest.micro_batches
        most = "" if plan.largest_exact else "at least "
        rows.append(("largest batch that fits", f"{most}{largest.batch_size:,} ({per} a device and micro-batch, "
                     f"{gib(largest.memory.total)})"))  # fmt: skip
    print_table("Time", ("figure", "value"), rows)


def _show_variants(title: str, variants: tuple[Variant, ...]) -> None:
    rows = [
        (
            variant.program.remat,
            variant.program.micro_batches,
            mesh(variant.program),
            gib(variant.program.memory.total),
            "-" if math.isinf(variant.seconds) else f"{1e3 * variant.seconds:,.2f}",
            f"{variant.program.model_flops / variant.program.program_flops:.1%}",
            variant.flags,
        )
        for variant in variants
    ]
    headers = ("remat", "micro-batches", "mesh", "memory", "step, ms", "model FLOPs", "flags")
    print_table(title, headers, rows)


def does_not_fit(plan: Plan) -> str:
    """One line: by how much a program does not fit, and what would."""
    program = plan.program
    over = program.memory.total - program.limit
    cures = "; ".join(
        f"{variant.flags} ({gib(variant.program.memory.total)}, step {1e3 * variant.seconds:,.0f} ms)"
        for variant in plan.remedies
    )
    if plan.largest and len(plan.remedies) < 3:
        smaller = f"--batch-size {plan.largest.batch_size} ({gib(plan.largest.memory.total)}, another recipe)"
        cures = f"{cures}; {smaller}" if cures else smaller
    return (
        f"{plan.name} does not fit on {plan.topology}: it needs {gib(program.memory.total)} a device, "
        f"{gib(over)} more than there is; cheapest remedies: {cures or 'a larger slice'}"
    )


def draw(plan: Plan, path: Path) -> None:
    """Two bars as PNG: memory of a device by kind against what there is, and the parts of a step's time."""
    program, memory = plan.program, plan.program.memory
    parts = {
        "parameters": memory.params / GIB,
        "optimizer": memory.moments / GIB,
        "batch": (memory.arguments - memory.params - memory.moments) / GIB,
        "activations, gradients": memory.within / GIB,
    }
    bars = [Bar("memory (GiB)", parts, program.limit / GIB, "there is")]
    if plan.time:
        time = plan.time
        hidden = min(time.compute, time.memory)
        longer = "compute" if time.compute >= time.memory else "memory traffic"
        shorter = "memory traffic" if longer == "compute" else "compute"
        parts = {
            f"{shorter}, overlapped": 1e3 * hidden,
            f"{longer}, beyond": 1e3 * (time.total - time.network - hidden),
            "network": 1e3 * time.network,
        }
        bars.append(Bar("step (ms)", parts))
    draw_bars(f"{plan.name} on {plan.topology}", bars, path)


# ---- the verb


def main(experiment: Experiment, asked: Any) -> int:
    """Prints the plan and writes what was asked for; `asked` are the verb's own options.

    Raises AlbertError, after all is printed and written, for a program that does not fit: the line says by how much and
    names the remedies.
    """
    for name in ("json", "png", "hlo"):
        if getattr(asked, name) and not Path(getattr(asked, name)).resolve().parent.is_dir():
            raise AlbertError(f"--{name} {getattr(asked, name)}: its directory does not exist; make it first")
    known = read_programs(Path(asked.json)) if asked.json else {}
    with working() as progress:
        made = plan(
            experiment, asked.topology, asked.slices, hlo=asked.hlo or "", known=known, progress=progress,
            patience=PATIENCE, search_limit=asked.search_limit if asked.search else 0,
        )  # fmt: skip
    show(made, with_params=asked.params)
    if asked.json:
        write_json(Path(asked.json), made, known)
    if asked.png:
        draw(made, Path(asked.png))
    sys.stdout.flush()
    if not made.program.fits:
        raise AlbertError(does_not_fit(made))
    return 0
