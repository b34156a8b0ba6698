r"""What a pretrained model is worth on labelled tasks: several starts, few and many labels, several seeds, the plain
baselines beside them; a table for each task, and curves.

    python -m benchmarks.tasks_from_packages --out runs/tasks
    python -m benchmarks.finetuning --tasks runs/tasks --out runs/finetuning --plot runs/finetuning/curves.png \
        --starts box=albert_jax/small demo=runs/demo/pretrain scratch --counts 100 400 2000 0 --seeds 3

A task is a folder with train, dev and test as .tsv (columns text and label) or .conll. A run is that of
configs/finetune_classification.py or configs/finetune_tagging.py by the package's own `train` and `evaluate`, with as
many training examples as the count says (0: all; of classes equally many while there are any), drawn anew by each seed.
`scratch` has random values in the shape of the first start that has a model, or of that in scratch=PATH.

What is done is not done again, so the same command continues, and takes more counts, seeds or tasks. Options after --
are fields of every run:  ... -- --optim.peak-lr 5e-4 --epochs 10
"""

import argparse
import contextlib
import dataclasses
import json
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_jax.commands.args import parse
from albert_jax.commands.environment import set_up_jax
from albert_jax.data.labelled.conll import read_conll
from albert_jax.data.labelled.tables import Columns, read_labelled
from albert_jax.errors import AlbertError, refuse
from albert_jax.evaluate import evaluate
from albert_jax.experiment import Experiment, load_config
from albert_jax.telemetry.tables import print_table
from albert_jax.train import train

CONFIGS = Path(__file__).parents[1] / "configs"
_RESULT = "evaluation-test.json"
BASELINE = "best baseline"


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    name: str
    init: str  # whatever --init takes
    from_scratch: bool = False


@dataclass(frozen=True)
class TaskFiles:
    """A folder of labelled files."""

    folder: Path
    suffix: str  # .tsv or .conll
    labels: tuple[str, ...]  # of all training examples: few of them may lack some
    examples: int  # training examples

    @property
    def name(self) -> str:
        return self.folder.name

    def file(self, split: str) -> str:
        return str(self.folder / f"{split}{self.suffix}")


# ---- what is asked for


def tasks_in(folder: Path, only: Sequence[str]) -> list[TaskFiles]:
    """The tasks in the folders of `folder`, of these names where `only` has any. Raises AlbertError."""
    found = [
        _opened(file)
        for file in sorted([*folder.glob("*/train.tsv"), *folder.glob("*/train.conll")])
        if not only or file.parent.name in only
    ]
    refuse(_task_flaws(folder, found, only))
    return found


def _task_flaws(folder: Path, found: Sequence[TaskFiles], only: Sequence[str]) -> Iterator[str]:
    if not found and not only:
        yield f"{folder}: no folder in it has train.tsv or train.conll; benchmarks.tasks_from_packages makes some"
    for name in only:
        if name not in {task.name for task in found}:
            yield f"{folder / name}: no train.tsv and no train.conll in it"
    for task in found:
        for split in ("dev", "test"):
            if not Path(task.file(split)).is_file():
                yield f"{task.file(split)} is missing; a task needs train, dev and test"


def _opened(file: Path) -> TaskFiles:
    if file.suffix == ".conll":
        sentences = read_conll(str(file))
        tags = {tag for sentence in sentences for tag in sentence.tags}
        kinds = sorted({tag[2:] for tag in tags if tag[:2] in ("B-", "I-")})
        labels = ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")] if kinds else sorted(tags)
        return TaskFiles(file.parent, file.suffix, tuple(labels), len(sentences))
    records = read_labelled(str(file), Columns(("text",), "label"))
    return TaskFiles(file.parent, file.suffix, tuple(sorted({str(record.target) for record in records})), len(records))


def starts_of(words: Sequence[str]) -> list[Start]:
    """NAME=MODEL each, and scratch or scratch=MODEL.

    >>> starts_of(["box=albert_jax/small", "scratch"])[1]
    Start(name='scratch', init='albert_jax/small', from_scratch=True)
    """
    pairs = [word.partition("=")[::2] for word in words]
    first = next((init for name, init in pairs if init), "")
    refuse(_start_flaws(words, pairs, first))
    return [Start(name, init or first, name == "scratch") for name, init in pairs]


def _start_flaws(words: Sequence[str], pairs: Sequence[tuple[str, str]], first: str) -> Iterator[str]:
    for word, (name, init) in zip(words, pairs, strict=True):
        if not name or "/" in name or not (init or name == "scratch"):
            yield f"--starts {word}: give NAME=MODEL, or scratch"
    if len({name for name, _ in pairs}) < len(pairs):
        yield f"--starts {' '.join(words)}: a name stands there twice"
    if not first:
        yield "--starts has no model whose shape and vocabulary random values could have; give scratch=MODEL"


def experiment_of(task: TaskFiles, start: Start, count: int, seed: int, words: Sequence[str], steps: int) -> Experiment:
    """The run of a config on `count` examples of a task, with fields changed as `words` say."""
    kind = "tagging" if task.suffix == ".conll" else "classification"
    base = load_config(CONFIGS / f"finetune_{kind}.py")
    files = {"train": (task.file("train"),), "dev": (task.file("dev"),), "test": (task.file("test"),)}
    opened = dataclasses.replace(base.task, **files, labels=task.labels, examples=count, sample_seed=seed)
    base = dataclasses.replace(
        base, name=f"{task.name}, {start.name}, {count or 'all'}", task=opened, seed=seed, eval_batch_size=128,
        init=start.init, from_scratch=start.from_scratch,
        telemetry=dataclasses.replace(base.telemetry, tensorboard=False),
    )  # fmt: skip
    if steps:
        base = dataclasses.replace(base, steps=steps, epochs=0.0)
    return parse(Experiment, words, prog="benchmarks.finetuning", default=base)


# ---- runs


@dataclass(frozen=True)
class Result:
    """A run's score on the test split, and that of the best plain baseline on the same examples."""

    score: str  # that which ranks checkpoints: accuracy, or f1 of entities
    value: float
    baseline: float
    against: str  # name of that baseline

    def __str__(self) -> str:
        return f"{self.score} {self.value:.3f}, {self.against} {self.baseline:.3f}"


def run(experiment: Experiment, workdir: Path, keep: bool) -> None:
    """Trains and scores a run; what it prints goes to WORKDIR/log.txt."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "log.txt").open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        train(experiment, workdir)
        evaluate(workdir, "test")
    if not keep:  # hundreds of runs, each with a model and its moments
        shutil.rmtree(workdir / "checkpoints", ignore_errors=True)


def read(workdir: Path) -> Result:
    record = json.loads((workdir / _RESULT).read_text(encoding="utf-8"))
    name, _ = record["ranking"]
    value, nothing = record["scores"][name], float("nan")
    found = record["baselines"].get(name), record["against"].get(name)
    return Result(name, nothing if value is None else value, nothing if found[0] is None else found[0], found[1] or "")


Results = dict[str, dict[str, dict[int, list[Result]]]]  # task -> start -> count, 0 for all -> a result a seed


def all_runs(asked: argparse.Namespace, tasks: Sequence[TaskFiles], starts: Sequence[Start]) -> Results:
    """Runs what is not done yet, with a line for each."""
    found: Results = {}
    for task in tasks:
        found[task.name] = {start.name: defaultdict(list) for start in starts}
        for count in asked.counts:
            if count >= task.examples:
                continue  # that is all of them, which 0 means
            for seed in range(asked.seeds):
                # Starts innermost: they share their examples, and so the fitted baselines.
                for start in starts:
                    workdir = asked.out / task.name / start.name / f"{count or 'all'}" / f"seed-{seed}"
                    if not (workdir / _RESULT).is_file():
                        begun = time.perf_counter()
                        run(experiment_of(task, start, count, seed, asked.fields, asked.steps), workdir, asked.keep)
                        print(f"{workdir}: {read(workdir)}; {time.perf_counter() - begun:.0f} s", flush=True)
                    found[task.name][start.name][count].append(read(workdir))
    return found


def check_settings(asked: argparse.Namespace, starts: Sequence[Start]) -> None:
    """Raises AlbertError where what stands in --out was run with other fields or models."""
    file = asked.out / "settings.json"
    now = {"fields": [*asked.fields], "steps": asked.steps, **{start.name: start.init for start in starts}}
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            has = f"its runs have {name} {before[name]!r}, asked is {now[name]!r}"
            raise AlbertError(f"{asked.out}: {has}; give another --out")
    asked.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(before | now, indent=2) + "\n", encoding="utf-8")


# ---- tables and curves


def summary(values: Sequence[float]) -> str:
    """Median, and least and greatest.

    >>> summary([0.81, 0.79, 0.8])
    '0.800 (0.790-0.810)'
    """
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def values_of(by_start: dict[str, dict[int, list[Result]]]) -> dict[str, dict[int, list[float]]]:
    """Start -> count -> a score a seed; the best baseline as one more start."""
    values = {
        name: {count: [result.value for result in results] for count, results in counts.items()}
        for name, counts in by_start.items()
    }
    first = next(iter(by_start.values()))
    baseline = {count: [result.baseline for result in results] for count, results in first.items()}
    return {**values, BASELINE: baseline}


def print_results(found: Results) -> None:
    """A table for each task, and on how many tasks each start beats the best baseline at each count."""
    for task, by_start in found.items():
        values = values_of(by_start)
        counts = [*values[BASELINE]]
        results = [result for counts in by_start.values() for results in counts.values() for result in results]
        against = sorted({result.against for result in results})
        rows = [[name, *(summary(by_count[count]) for count in counts)] for name, by_count in values.items()]
        title = f"{task}: {results[0].score} on test, median (range); {BASELINE} is {' or '.join(against)}"
        print_table(title, ["start", *map(_named, counts)], rows)
        print()
    present = {count for by_start in found.values() for by_count in by_start.values() for count in by_count}
    counts = sorted(present, key=lambda count: count or float("inf"))
    names = [*next(iter(found.values()))]
    print_table(
        f"Tasks on which the median beats the {BASELINE}'s",
        ["start", *map(_named, counts)],
        [[name, *(_wins(found, name, count) for count in counts)] for name in names],
    )


def _wins(found: Results, name: str, count: int) -> str:
    pairs = [
        (statistics.median(values[name][count]), statistics.median(values[BASELINE][count]))
        for values in map(values_of, found.values())
        if count in values[name]
    ]
    return f"{sum(value > baseline for value, baseline in pairs)} of {len(pairs)}"


def _named(count: int) -> str:
    return f"{count:,}" if count else "all"


def draw(found: Results, tasks: Sequence[TaskFiles], path: Path) -> None:
    """A panel for each task: median against the number of training examples, least to greatest as a band."""
    from matplotlib.figure import Figure

    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.3 * lines), layout="constrained", dpi=150)
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel, task in zip(panels, tasks, strict=False):
        by_start = found[task.name]
        for name, by_count in values_of(by_start).items():
            points = sorted((count or task.examples, values) for count, values in by_count.items())
            x = [count for count, _ in points]
            style: dict[str, Any] = {"color": "0.35", "linestyle": "--"} if name == BASELINE else {}
            (line,) = panel.plot(x, [statistics.median(v) for _, v in points], marker="o", ms=3, label=name, **style)
            low, high = [min(v) for _, v in points], [max(v) for _, v in points]
            panel.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        score = next(result.score for counts in by_start.values() for each in counts.values() for result in each)
        panel.set(title=task.name, xscale="log", xlabel="labelled examples", ylabel=score)
        ticks = sorted({count or task.examples for count in next(iter(by_start.values()))})
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels:
        panel.set_axis_off()
    figure.axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    own, fields = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.finetuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", type=Path, required=True, help="folder with a folder for each task")
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"), help="where the runs go (%(default)s)")
    parser.add_argument("--starts", nargs="+", default=["box=albert_jax/small", "scratch"], help="NAME=MODEL, scratch")
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 400, 2000, 0], help="training examples; 0: all")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--only", nargs="*", default=[], help="names of tasks (all)")
    parser.add_argument(
        "--steps", type=int, default=0, help="steps of each run, in place of the config's epochs: a trial"
    )
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of runs that are done")
    parser.add_argument("--plot", type=Path, help="file of the curves: .png, .svg or .pdf")
    asked = parser.parse_args(own)
    asked.fields = fields
    set_up_jax()
    tasks, starts = tasks_in(asked.tasks, asked.only), starts_of(asked.starts)
    check_settings(asked, starts)
    found = all_runs(asked, tasks, starts)
    print_results(found)
    if asked.plot:
        draw(found, tasks, asked.plot)
        print(f"curves: {asked.plot}")


if __name__ == "__main__":
    try:
        main()
    except AlbertError as error:
        sys.exit(f"error: {error}")
