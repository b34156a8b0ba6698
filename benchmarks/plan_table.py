"""Makes docs/plan_table.json, what every published size needs and can reach on five TPU slices, and docs/plan.md.

    python benchmarks/plan_table.py [--render]

Each row is the training step of configs/pretrain_*.py, with the least number of micro-batches that fits, compiled by
libtpu; no TPU is needed. Rows that the file holds are kept: remove it to make all anew. --render only writes the page.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax

from albert_jax.cluster.devices import GIB
from albert_jax.experiment import Experiment, load_config
from albert_jax.plan.compile import Program
from albert_jax.plan.roofline import Plan
from albert_jax.plan.search import plan

ROOT = Path(__file__).parents[1]
TABLE, PAGE = ROOT / "docs" / "plan_table.json", ROOT / "docs" / "plan.md"
SIZES = ("base", "large", "xlarge", "xxlarge")
SLICES = (("v5e-8", 1), ("v5e-256", 1), ("v5p-256", 1), ("v6e-256", 1), ("v5e-256", 2))


def config(size: str) -> Experiment:
    return load_config(ROOT / "configs" / f"pretrain_{size}.py")


def facts(program: Program) -> dict[str, Any]:
    """What does not depend on how hard the compiler tries: a test computes it again."""
    kinds: dict[str, list[int]] = {}
    for each in program.collectives:
        total = kinds.setdefault(f"{each.kind} {each.dtype}", [0, 0])
        total[0] += each.executed
        total[1] += each.executed * each.bytes
    return {
        "batch_size": program.batch_size,
        "micro_batches": program.micro_batches,
        "remat": program.remat,
        "mesh": program.mesh,
        "parameters": program.parameters,
        "model_flops": program.model_flops,
        "program_flops": program.program_flops,
        "state_bytes": program.memory.params + program.memory.moments,
        "collectives": kinds,
        "in_loops": sum(each.executed for each in program.collectives if each.in_loop),
        "dcn_bytes": sum(each.executed * each.bytes for each in program.collectives if each.dcn),
    }


def row(size: str, topology: str, slices: int) -> dict[str, Any]:
    """One row of the table."""
    experiment = config(size)
    made = plan(experiment, topology, slices, with_remedies=False)
    while not made.program.fits:
        assert made.largest is not None, f"{size} does not fit on {topology} with one row"
        rows, most = made.program.rows, made.largest.rows // made.largest.micro_batches
        more = range(made.program.micro_batches + 1, rows + 1)
        pieces = next(n for n in more if rows % n == 0 and rows // n <= most)
        made = plan(dataclasses.replace(experiment, micro_batches=pieces), topology, slices, with_remedies=False)
    return {"size": size, "topology": topology, "slices": slices, **facts(made.program), **figures(made)}


def figures(made: Plan) -> dict[str, Any]:
    assert made.time is not None and made.mfu is not None and made.hours is not None and made.largest is not None
    time = made.time
    return {
        "memory_bytes": made.program.memory.total,
        "limit_bytes": made.program.limit,
        "largest_batch": made.largest.batch_size,
        "compute_ms": 1e3 * time.compute,
        "memory_ms": 1e3 * time.memory,
        "network_ms": 1e3 * time.network,
        "step_ms": 1e3 * time.total,
        "mfu_ceiling": made.mfu,
        "tokens_per_second": made.tokens_per_step / time.total,
        "hours": made.hours,
        "chip_hours": made.hours * made.chips,
    }


def write(rows: list[dict[str, Any]]) -> None:
    import libtpu

    made_with = {"jax": jax.__version__, "libtpu": libtpu.__version__}
    part = TABLE.with_suffix(".part")
    part.write_text(json.dumps({"made_with": made_with, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    os.replace(part, TABLE)


def render(table: dict[str, Any]) -> str:
    """The page."""
    head = (
        "size", "slice", "micro-batches", "memory, GiB", "of", "largest batch", "collectives", "in loops", "MB",
        "MB to slices", "compute, ms", "memory, ms", "network, ms", "MFU ceiling", "recipe, h", "chip-hours",
    )  # fmt: skip
    lines = [" | ".join(head), " | ".join("---" if place < 2 else "---:" for place in range(len(head)))]
    for row in table["rows"]:
        counts = row["collectives"].values()
        where = f"{row['slices']} x {row['topology']}" if row["slices"] > 1 else row["topology"]
        cells = (
            row["size"], where, row["micro_batches"], f"{row['memory_bytes'] / GIB:.1f}",
            f"{row['limit_bytes'] / GIB:.1f}", f"{row['largest_batch']:,}", sum(count for count, _ in counts),
            row["in_loops"], f"{sum(size for _, size in counts) / 1e6:,.0f}", f"{row['dcn_bytes'] / 1e6:,.1f}",
            f"{row['compute_ms']:,.1f}", f"{row['memory_ms']:,.1f}", f"{row['network_ms']:,.2f}",
            f"{row['mfu_ceiling']:.0%}", f"{row['hours']:,.1f}", f"{row['chip_hours']:,.0f}",
        )  # fmt: skip
        lines.append(" | ".join(map(str, cells)))
    body = "\n".join(f"| {line} |" for line in lines)
    made = ", ".join(f"{name} {version}" for name, version in table["made_with"].items())
    return f"""# What the published sizes need on five TPU slices

Made by `python benchmarks/plan_table.py` ({made}) from programs compiled for the slices, not from runs. Each row is
the training step of `configs/pretrain_*.py` (batch 4096 x 512, bfloat16, LAMB, data parallel) with the least number
of micro-batches that fits. `plan` prints the same for any config:

    python -m albert_jax plan --config configs/pretrain_base.py --topology v5e-256

Memory is that of one device, and the largest batch what the compiler accepts. Collectives and MB are executed ones, a
step and device. The three times are the program's matrix products, its traffic between chip and memory, and its
collectives, each at the published peak; a step takes the longer of the first two plus the third, and the MFU ceiling,
the hours of the whole recipe (125,000 steps) and the chip-hours follow from it. They are bounds: a run is slower.

{body}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="only write the page")
    asked = parser.parse_args()
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["rows"] if TABLE.exists() else []
    done = {(row["size"], row["topology"], row["slices"]) for row in rows}
    order = [(size, topology, slices) for size in SIZES for topology, slices in SLICES]
    for place in order:
        if place not in done and not asked.render:
            rows.append(row(*place))
            rows.sort(key=lambda each: order.index((each["size"], each["topology"], each["slices"])))
            write(rows)
            print(*place, f"{rows[-1]['step_ms']:.1f} ms", flush=True)
    PAGE.write_text(render(json.loads(TABLE.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
