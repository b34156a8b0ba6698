"""Learning per minute: what each recipe, and a peer, makes of the same text in the same processor time.

    python -m benchmarks.learning --minutes 5 --cores 1 --parallel 2 --seeds 2 --write docs/learning.json
    python -m benchmarks.learning --minutes 15 --rows base --peer peer/bin/python --seeds 3 --write docs/learning.json

Every row runs in a process of its own that is pinned to `--cores` cores. Its clock is the processor time of the
training loop (making batches included, compilation and evaluation not), so that other work on the machine is not in it;
the wall time stands beside it. The number of steps is set from a short warm-up, so that the schedule ends with the
clock. All are scored on the same held-out documents with the same masks. docs/learning.md says what each row means.
"""

import argparse
import dataclasses
import datetime
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from albert_jax.files import write_atomically
from benchmarks.learning_rows import PEERS, ROWS

ROOT = Path(__file__).parents[1]
OUT = Path("runs/learning")  # logs, and the text where none is given
PACKAGES = "debian:configs/pretrain_small.tsv"
MARKS = "<!-- tables of benchmarks.learning -->", "<!-- end of tables -->"  # what stands between is written here
Run = dict[str, Any]


def prepared(asked: str, vocab: str, corpus: str) -> str:
    """The directory `asked`, prepared with a corpus and a vocabulary of 16,000 pieces where it is not there yet."""
    words = ["--vocab", vocab] if vocab else ["--vocab-size", "16000", "--validation", "0.01", "--test", "0.01"]
    if not (Path(asked) / "prepared.json").is_file():
        command = [sys.executable, "-m", "albert_jax", "prepare", "--corpus", corpus, "--out", asked, *words]
        subprocess.run(command, check=True)
    return str(Path(asked).resolve())


# ---- running


def run_row(job: dict[str, Any]) -> Run | None:
    """The record of one run; None where it failed, with the log's name printed."""
    log = OUT / f"{job['row']}-seed-{job['seed']}-{job['minutes']:g}.log"
    with tempfile.TemporaryDirectory() as name, log.open("w") as lines:
        files = Path(name) / "job.json", Path(name) / "result.json"
        files[0].write_text(json.dumps(job))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        words = [sys.executable, "-m", "benchmarks.learning_run", *map(str, files)]
        done = subprocess.run(words, stdout=lines, stderr=subprocess.STDOUT, env=environment)
        if done.returncode or not files[1].is_file():
            print(f"{job['row']} (seed {job['seed']}) failed; its log is {log}", file=sys.stderr, flush=True)
            return None
        found: Run = json.loads(files[1].read_text())
    kept = ("row", "seed", "minutes", "text", "eval_examples")
    return {name: job[name] for name in kept} | {"cores": len(job["cpus"]), **found, "made": made_on()}


def made_on() -> str:
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] or [
        "unknown processor"
    ]
    return f"{names[0]}, {datetime.date.today()}"


def run_all(jobs: Sequence[dict[str, Any]], groups: Sequence[Sequence[int]]) -> Iterator[Run]:
    """Runs every job on the next free group of cores; yields each record as it ends."""
    free: queue.SimpleQueue[Sequence[int]] = queue.SimpleQueue()
    for group in groups:
        free.put(group)

    def run(job: dict[str, Any]) -> Run | None:
        cpus = free.get()
        try:
            return run_row(job | {"cpus": list(cpus)})
        finally:
            free.put(cpus)

    with ThreadPoolExecutor(len(groups)) as pool:
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            if found := future.result():
                yield found


# ---- tables


def key(run: Run) -> tuple[Any, ...]:
    """Runs with one key are seeds of one row of one table."""
    return run["minutes"], run["cores"], run["text"], run["eval_examples"], run["row"]


def _mean(values: Sequence[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):,.{digits}f}{spread}"


def tables(runs: Sequence[Run]) -> str:
    """Markdown: a table for each clock and text, a row for each recipe, the mean over seeds and its deviation."""
    rows: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        rows.setdefault(key(run), []).append(run)
    order = [*ROWS, *PEERS]
    blocks = []
    for setting in sorted({name[:-1] for name in rows}):
        these = {name[-1]: found for name, found in rows.items() if name[:-1] == setting}
        tasks = sorted({task for found in these.values() for run in found for task in run.get("finetuned", {})})
        head = ["row", "seeds", "MLM loss at 1/3", "2/3", "end", "MLM accuracy at 1/3", "2/3", "end", "order accuracy",
                "steps", "pieces/s", "clock, s", "wall, s", *tasks]  # fmt: skip
        minutes, cores, text, examples = setting
        machines = "; ".join(sorted({run["made"] for found in these.values() for run in found}))
        lines = [
            f"{minutes:g} minutes of {cores} core{'s' if cores > 1 else ''}, text {text}, {examples:,} held-out "
            f"examples; {machines}\n",
            "| " + " | ".join(head) + " |",
            "|---" + "|---:" * (len(head) - 1) + "|",
        ]
        for row in sorted(these, key=lambda name: order.index(name) if name in order else len(order)):
            found = these[row]
            ends = [run["curve"][-1] for run in found]
            curves = [[_at(run, share) for run in found] for share in (1 / 3, 2 / 3, 1.0)]
            cells = [f"`{row}`", str(len(found))]
            for score in ("mlm_loss", "mlm_accuracy"):
                cells += [_mean([point[score] for point in points], 3) for points in curves]
            cells.append(_mean([end["order_accuracy"] for end in ends], 3))
            cells += [
                f"{statistics.mean(run[name] for run in found):,.0f}"
                for name in ("steps", "pieces_per_second", "cpu_seconds", "wall_seconds")
            ]
            for task in tasks:
                scores = [run["finetuned"][task] for run in found if task in run.get("finetuned", {})]
                cells.append(_mean(scores, 3) if scores else "")
            lines.append("| " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _at(run: Run, share: float) -> dict[str, float]:
    # A clock that ran short of its steps may have passed a point only at the end.
    return next(point for point in run["curve"] if point["share"] >= share - 1e-9)


def write(file: Path, runs: Sequence[Run]) -> None:
    """Writes the records, and their tables into the page of the same name where it has the marks."""
    write_atomically(file, json.dumps({"runs": runs}, indent=1) + "\n")
    page = file.with_suffix(".md")
    if page.is_file() and all(mark in page.read_text(encoding="utf-8") for mark in MARKS):
        before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        write_atomically(page, f"{before}{MARKS[0]}\n\n{tables(runs) or 'Not yet run.'}\n\n{MARKS[1]}{after}")


# ---- the command


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15, help="of the clock, each run (default: 15)")
    parser.add_argument("--cores", type=int, default=1, help="that each run is pinned to (default: 1)")
    parser.add_argument("--parallel", type=int, default=1, help="runs side by side, on cores of their own (default: 1)")
    parser.add_argument(
        "--rows", default="", help="names with commas (default: all recipes, and the peers with --peer)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each row (default: 1)")
    parser.add_argument("--corpus", default=str(OUT / "corpus"), help=f"prepared text (default: made from {PACKAGES}, "
                        "or from docstrings where there is no apt)")  # fmt: skip
    parser.add_argument("--eval-examples", type=int, default=1024, help="held-out examples (default: 1024)")
    parser.add_argument("--peer", default="", help="python of an environment with torch==2.13.0 and transformers 4.57")
    parser.add_argument("--finetune", action="store_true", help="also score the models on short fine-tuning runs")
    parser.add_argument("--finetune-steps", type=int, default=200, help="of each of those (default: 200)")
    parser.add_argument("--tsv", nargs=2, default=(), metavar=("TRAIN", "DEV"), help="a classification task of yours")
    parser.add_argument("--write", type=Path, help="file of all runs, which is gone on with, beside its page")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    return parser


def flaws(asked: argparse.Namespace, rows: Sequence[str]) -> Iterator[str]:
    if unknown := [row for row in rows if row not in ROWS and row not in PEERS]:
        yield f"no row {unknown[0]!r}; there are {', '.join([*ROWS, *PEERS])}"
    if not asked.peer and any(row in PEERS for row in rows):
        yield "a peer's row needs --peer PYTHON, the python of its environment"
    if asked.peer and shutil.which(asked.peer) is None:
        yield f"--peer {asked.peer}: no such program"
    have = len(os.sched_getaffinity(0))
    if not 1 <= asked.parallel * asked.cores <= have:
        yield f"--parallel {asked.parallel} times --cores {asked.cores} of {have} cores; lower one of them"
    if asked.minutes <= 0 or asked.seeds < 1 or asked.eval_examples < 1 or asked.finetune_steps < 1:
        yield "give numbers above 0"


def main() -> None:
    parser = arguments()
    asked = parser.parse_args()
    if asked.list:
        for row, changes in {**ROWS, **PEERS}.items():
            print(f"{row:22}{', '.join(f'{name}={_short(value)}' for name, value in changes.items())}")
        return
    rows = asked.rows.split(",") if asked.rows else [*ROWS, *(PEERS if asked.peer else ())]
    for flaw in flaws(asked, rows):
        parser.error(flaw)
    OUT.mkdir(parents=True, exist_ok=True)
    corpus = prepared(asked.corpus, "", PACKAGES if shutil.which("apt-get") else "pydocs")
    made = json.loads((Path(corpus) / "prepared.json").read_text())
    text = f"{'+'.join(made['made_from']['corpus'])} {made['made_from']['corpus_digest'][:8]}"
    # Paragraphs of docstrings with labels, in the pieces of the text at hand.
    pydocs = ""
    if asked.finetune:
        pydocs = prepared(str(OUT / f"pydocs-{made['fingerprint'][:8]}"), f"{corpus}/vocab", "pydocs")

    jobs = [
        {
            "row": row, "seed": seed, "minutes": asked.minutes, "corpus": corpus, "text": text,
            "eval_examples": asked.eval_examples, "peer": asked.peer, "peer_row": row in PEERS,
            "pydocs": pydocs, "tsv": [str(Path(file).resolve()) for file in asked.tsv],
            "finetune_steps": asked.finetune_steps if asked.finetune else 0, "cores": asked.cores,
        }
        for seed in range(asked.seeds) for row in rows
    ]  # fmt: skip
    runs: list[Run] = []
    if asked.write and asked.write.is_file():
        runs = json.loads(asked.write.read_text())["runs"]
    # With fine-tuning asked for, a run that was made without it is made again.
    known = {(*key(run), run["seed"]): run for run in runs if run.get("finetuned") or not asked.finetune}
    jobs = [job for job in jobs if (*key(job), job["seed"]) not in known]
    cpus = sorted(os.sched_getaffinity(0))
    groups = [cpus[i * asked.cores : (i + 1) * asked.cores] for i in range(asked.parallel)]
    mine = []
    for found in run_all(jobs, groups):
        runs = [run for run in runs if (*key(run), run["seed"]) != (*key(found), found["seed"])] + [found]
        mine.append(found)
        print(tables([found]).splitlines()[-1], flush=True)
        if asked.write:
            write(asked.write, runs)
    if asked.write:
        write(asked.write, runs)  # also where every run was there already: the page may be from before
    print(f"\n{tables(runs if asked.write else mine)}")
    if len(mine) < len(jobs):
        raise SystemExit(f"{len(jobs) - len(mine)} of {len(jobs)} runs failed")


def _short(value: Any) -> str:
    if not dataclasses.is_dataclass(value):
        return str(value)
    changed = (f for f in dataclasses.fields(value) if getattr(value, f.name) != f.default)
    return f"{type(value).__name__}({', '.join(f'{f.name}={_short(getattr(value, f.name))}' for f in changed)})"


if __name__ == "__main__":
    main()
