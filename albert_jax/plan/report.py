"""A plan as tables, as a picture, as a file, and as the one line of a program that does not fit."""

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from albert_jax import __version__, files
from albert_jax.cluster.devices import GIB
from albert_jax.errors import retold
from albert_jax.plan.compile import Program
from albert_jax.plan.roofline import Plan, Variant
from albert_jax.tasks.pretrain import VOCABULARY
from albert_jax.telemetry.charts import Bar, draw_bars
from albert_jax.telemetry.tables import format_count, format_seconds, print_table

UNKNOWN = "unknown device"
NOT_KNOWN = "not known of a program that does not fit"


def gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"


def mesh(program: Program) -> str:
    """The mesh's axes that hold more than one device."""
    axes = [f"{axis} {size}" for axis, size in program.mesh.items() if size > 1]
    zero = f" (ZeRO-{program.zero})" if program.mesh["fsdp"] > 1 else ""
    return (", ".join(axes) or "one device") + zero


def _setting(program: Program) -> str:
    vocabulary = f", vocabulary assumed: {VOCABULARY:,} pieces" if program.assumed_vocabulary else ""
    pieces = f" in {program.micro_batches} micro-batches" if program.micro_batches > 1 else ""
    return (
        f"batch {program.batch_size:,} x {program.length}{pieces}, {mesh(program)}, remat {program.remat}, "
        f"{program.attention} attention{vocabulary}"
    )


def show(plan: Plan, with_params: bool = False) -> None:
    program, memory = plan.program, plan.program.memory
    print(f"{plan.name} on {plan.topology}: {verdict(program)}\n{_setting(program)}\n")
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
    for title, variants in (("What fits", plan.remedies), ("Settings that fit, fastest first", plan.found)):
        if variants:
            print()
            headers = ("remat", "micro-batches", "mesh", "memory", "step, ms", "model FLOPs", "flags")
            print_table(title, headers, list(map(_row, variants)))
    if with_params:
        print()
        print_table("Parameters", ("path", "shape", "spec", "bytes a device", "of its moments"), list(program.table))


def verdict(program: Program) -> str:
    if not program.fits:
        return f"does not fit: it needs {gib(program.memory.total)} of {gib(program.limit)} a device"
    if not program.limit:
        return f"takes {gib(program.memory.total)} a device"
    return f"fits: {gib(program.memory.total)} of {gib(program.limit)} a device"


def _show_network(plan: Plan) -> None:
    program = plan.program
    if not program.fits:
        print(f"Collectives: {NOT_KNOWN}")
        return
    # Alike ones in a row: under ZeRO-3 each parameter has a collective of its own.
    counts: Counter[tuple[str, ...]] = Counter()
    sizes: Counter[tuple[str, ...]] = Counter()
    for each in program.collectives:
        among = "other slices" if each.dcn else str(each.group or "")
        key = (each.kind, each.dtype, among, "yes" if each.in_loop else "no")
        counts[key] += each.executed
        sizes[key] += each.executed * each.bytes
    rows = [(*key, counts[key], f"{sizes[key] / 1e6:,.3f}") for key in counts]
    inside, outside = plan.network_bytes
    rows.append(("all", "", "", "", counts.total(), f"{(inside + outside) / 1e6:,.3f}"))
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
        rows.append(("step at best", UNKNOWN if program.fits else NOT_KNOWN))
    else:
        network = f" (slices {1e3 * plan.network[1]:,.2f})" if plan.network[1] else ""
        rate, hours = plan.tokens_per_step / time.total, plan.hours or 0.0
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
    if largest := plan.largest:
        most = f"{'' if plan.largest_exact else 'at least '}{largest.batch_size:,}"
        each = f"{largest.rows // largest.micro_batches} a device and micro-batch"
        rows.append(("largest batch that fits", f"{most} ({each}, {gib(largest.memory.total)})"))
    print_table("Time", ("figure", "value"), rows)


def _row(variant: Variant) -> tuple[Any, ...]:
    program = variant.program
    step = "-" if math.isinf(variant.seconds) else f"{1e3 * variant.seconds:,.2f}"
    memory, share = gib(program.memory.total), f"{program.model_flops / program.program_flops:.1%}"
    return program.remat, program.micro_batches, mesh(program), memory, step, share, variant.flags


def does_not_fit(plan: Plan) -> str:
    """One line: by how much a program does not fit, and what would."""
    program, needed = plan.program, plan.program.memory.total
    cures = [
        f"{variant.flags} ({gib(variant.program.memory.total)}, step {1e3 * variant.seconds:,.0f} ms)"
        for variant in plan.remedies
    ]
    if plan.largest and len(cures) < 3:
        largest = plan.largest
        cures.append(f"--batch-size {largest.batch_size} ({gib(largest.memory.total)}, another recipe)")
    return (
        f"{plan.name} does not fit on {plan.topology}: it needs {gib(needed)} a device, {gib(needed - program.limit)} "
        f"more than there is; cheapest remedies: {'; '.join(cures) or 'a larger slice'}"
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
        hidden, longer = sorted([(plan.time.compute, "compute"), (plan.time.memory, "memory traffic")])
        parts = {
            f"{hidden[1]}, overlapped": 1e3 * hidden[0],
            f"{longer[1]}, beyond": 1e3 * (longer[0] - hidden[0]),
            "network": 1e3 * plan.time.network,
        }
        bars.append(Bar("step (ms)", parts))
    draw_bars(f"{plan.name} on {plan.topology}", bars, path)


def to_json(plan: Plan, known: dict[str, Program]) -> dict[str, Any]:
    """A plan as it stands in a file: its fields, what follows from them, and every program that was compiled."""
    follows = {
        "mfu_ceiling": plan.mfu,
        "tokens_per_second": plan.tokens_per_step / plan.time.total if plan.time else None,
        "step_seconds": plan.time.total if plan.time else None,
        "hours": plan.hours,
        "device_hours": plan.hours * plan.program.devices if plan.hours else None,
        "chip_hours": plan.hours * plan.chips if plan.hours else None,
        "ici_bytes": plan.network_bytes[0],
        "dcn_bytes": plan.network_bytes[1],
        "collectives_in_loops": sum(each.executed for each in plan.program.collectives if each.in_loop),
        "memory_total": plan.program.memory.total,
    }
    programs = {key: dataclasses.asdict(program) for key, program in known.items()}
    return {"albert_jax": __version__, "plan": dataclasses.asdict(plan), "follows": follows, "programs": programs}


def read_programs(path: Path) -> dict[str, Program]:
    """Programs of an earlier --json FILE by key; none where it is missing. Raises AlbertError for another file."""
    if not path.exists():
        return {}
    # Of another version, whose programs lack a field of ours, is refused too: a guess would be a wrong figure.
    advice = "is no plan of this version; remove it or name another file"
    with retold(lambda reason: f"{path} exists and {advice} ({reason})", *files.DAMAGE):
        programs = json.loads(path.read_text(encoding="utf-8"))["programs"]
        return {key: Program.from_dict(program) for key, program in programs.items()}
