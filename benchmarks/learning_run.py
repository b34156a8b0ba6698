"""One row of `benchmarks.learning`, in a process of its own: `python -m benchmarks.learning_run JOB RESULT`.

JOB and RESULT are JSON files; `benchmarks.learning` writes the one and reads the other.
"""

import contextlib
import dataclasses
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

POINTS = (1 / 3, 2 / 3)  # shares of the clock at which the model is scored, beside the end
_BLOCK = 5  # steps between looks at the clock
_TIMED = 8  # steps of the warm-up that the length of a run is set by


class Clock:
    """Processor seconds of this process while it runs: what a shared machine does to others is not in it."""

    def __init__(self) -> None:
        self.spent = self.wall = 0.0

    def __enter__(self) -> "Clock":
        self._start = (time.process_time(), time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        self.spent += time.process_time() - self._start[0]
        self.wall += time.perf_counter() - self._start[1]


class Judge:
    """The one evaluation of all rows: masks of 15 % drawn with a fixed seed over held-out documents, in float32."""

    def __init__(self, config: Any, corpus: str, length: int, examples: int) -> None:
        from albert_jax.data.examples.masking import MaskConfig
        from albert_jax.data.examples.pairs import PairConfig
        from albert_jax.engine.assemble import assemble
        from albert_jax.engine.sharding import MeshConfig
        from albert_jax.optim import AdamW
        from albert_jax.tasks import Pretrain

        task = Pretrain(
            data=corpus, pairs=PairConfig(max_length=length), masks=MaskConfig(rate=0.15), eval_examples=examples
        )
        self._task = task.open(dataclasses.replace(config, compute_dtype="float32"), 0)
        self._assembly = assemble(self._task, AdamW(), MeshConfig(), steps=1, batch_size=64)

    def scores(self, params: Any) -> dict[str, float]:
        from albert_jax.evaluate import score

        assembly = self._assembly
        evaluation, _ = score(self._task, assembly.eval_step, params, assembly.layout, "validation", 64)
        return {name: round(value, 5) for name, value in evaluation.scores.items()}

    def scores_of_arrays(self, arrays: Mapping[str, Any]) -> dict[str, float]:
        """Of parameters by path, as `albert_jax.interop` reads them."""
        from albert_jax.trees import unflatten

        return self.scores(unflatten(self._assembly.abstract_state().params, arrays))


# ---- ours


class Part:
    """One training run: a recipe, opened."""

    def __init__(self, recipe: Any, job: Mapping[str, Any], steps: int = 1000, first_steps: int = 0) -> None:
        from albert_jax.engine.assemble import assemble
        from albert_jax.engine.sharding import MeshConfig

        self.recipe, self.steps, self._seed = recipe, steps, job["seed"]
        self.task = recipe.task(job["corpus"], steps, first_steps).open(recipe.config(), self._seed)
        self.assembly = assemble(
            self.task, recipe.optim, MeshConfig(), steps=steps, batch_size=recipe.batch,
            micro_batches=recipe.micro_batches, seed=self._seed,
        )  # fmt: skip

    def batches(self) -> Any:
        return self.task.train_batches(self.recipe.batch, self._seed, 0)

    def seconds_per_step(self) -> float:
        """Processor seconds, measured: the median of a few steps after compilation."""
        import jax

        state, batches, found = self.assembly.initial_state(), self.batches(), []
        for number in range(2 + _TIMED):
            start = time.process_time()
            state, _ = self.assembly.train_step(state, self.assembly.layout.to_devices(next(batches)))
            jax.block_until_ready(state)
            if number >= 2:
                found.append(time.process_time() - start)
        batches.close()
        return statistics.median(found)

    def seconds_at_start(self) -> float:
        """Processor seconds that making the initial values takes, measured."""
        start = time.process_time()
        self.task.initial_values(self._seed)
        return time.process_time() - start

    def compile(self, first_steps: int) -> None:
        """Compiles the step, for every shape of batch that the run will see."""
        batches = self.batches()
        for number in {0, first_steps}:
            batches.set_state({**batches.get_state(), "next_batch": number})
            self.assembly.train_step(self.assembly.initial_state(), self.assembly.layout.to_devices(next(batches)))
        batches.close()

    def train(self, params: Any, clock: Clock, at_point: Callable[[Any, Clock], None]) -> Any:
        """The parameters after all steps, from `params` (None: fresh); `at_point(parameters, clock)` is asked every few
        steps, off the clock."""
        import jax

        from albert_jax.engine.state import with_values

        state, batches = self.assembly.initial_state(), self.batches()
        if params is not None:
            state = state.replace(params=params)
        else:
            with clock:
                values = self.task.initial_values(self._seed)
                state = state.replace(params=with_values(state.params, values))
        begun = 0
        while begun < self.steps:
            with clock:
                for _ in range(min(_BLOCK, self.steps - begun)):
                    state, _ = self.assembly.train_step(state, self.assembly.layout.to_devices(next(batches)))
                    begun += 1
                jax.block_until_ready(state)
            at_point(state.params, clock)
        batches.close()
        return state.params


def length_of(recipe: Any, seconds: float, job: Mapping[str, Any]) -> tuple[int, int]:
    """(steps, of which of the first length) that end with the clock."""
    part = Part(dataclasses.replace(recipe, first={}), job)
    seconds -= part.seconds_at_start()
    whole = part.seconds_per_step()
    if not recipe.first:
        return max(1, round(seconds / whole)), 0
    short = Part(dataclasses.replace(recipe, length=recipe.first["length"], first={}), job).seconds_per_step()
    first = max(1, round(recipe.first_share * seconds / short))
    return first + max(1, round((1 - recipe.first_share) * seconds / whole)), first


def run_ours(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    from benchmarks.learning_rows import recipe as named

    recipe, seconds = named(job["row"]), 60 * job["minutes"]
    judge = Judge(recipe.config(), job["corpus"], recipe.length, job["eval_examples"])
    clock, points, curve = Clock(), list(POINTS), []

    def at_point(params: Any, clock: Clock) -> None:
        if points and clock.spent >= points[0] * seconds:
            curve.append({"share": points.pop(0), "seconds": clock.spent, **judge.scores(params)})
            print(curve[-1], flush=True)

    params, steps, pieces = None, 0, 0
    for share, part_recipe in recipe.parts():
        count, first = length_of(part_recipe, share * seconds, job)
        part = Part(part_recipe, job, count, first)
        part.compile(first)
        print(f"{share:.0%} of the clock: {count} steps, {first} of the first length", flush=True)
        # What a layer or a batch fewer leaves has the same parameters, path by path: all layers share them.
        params = part.train(params, clock, at_point)
        steps += count
        short = part_recipe.first.get("length", 0)
        pieces += part_recipe.batch * (first * short + (count - first) * part_recipe.length)
    curve.append({"share": 1.0, "seconds": clock.spent, **judge.scores(params)})
    write_model(folder / "model", recipe.config(), job["corpus"], _arrays(params))
    return measured(steps, pieces, clock.spent, clock.wall, curve)


def measured(steps: int, pieces: int, spent: float, wall: float, curve: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "steps": steps, "pieces": pieces, "pieces_per_second": pieces / spent, "cpu_seconds": spent,
        "wall_seconds": wall, "curve": curve,
    }  # fmt: skip


def _arrays(params: Any) -> dict[str, Any]:
    import numpy as np

    from albert_jax.trees import flatten

    return {path: np.asarray(leaf) for path, leaf in flatten(params).items()}


def write_model(directory: Path, config: Any, corpus: str, arrays: dict[str, Any]) -> None:
    """A directory that --init takes."""
    from albert_jax.data.text.tokenizers import load
    from albert_jax.interop import directory as directories
    from albert_jax.interop.source import LoadedModel

    directory.mkdir()
    tokenizer = load(f"{corpus}/vocab")
    config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
    directories.write(
        directory, LoadedModel(str(directory), "albert_jax", config, arrays, "pretrain", (), "", tokenizer)
    )


# ---- the peer


def run_peer(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Hugging Face's model under torch in the environment of `job["peer"]`, on the batches of our loader; its weights
    come back through our converter and are scored like ours."""
    from albert_jax.data.text.tokenizers import load
    from albert_jax.interop.load import open_source
    from albert_jax.interop.released import to_hf
    from benchmarks.learning_rows import PEERS, Recipe

    recipe = Recipe()
    vocab_size = load(f"{job['corpus']}/vocab").vocab_size
    config = dataclasses.replace(recipe.config(), vocab_size=vocab_size, classifier_dropout=0.0)
    batches = recipe.task(job["corpus"]).open(config, job["seed"]).train_batches(recipe.batch, job["seed"], 0)
    asked = {
        **PEERS[job["row"]], "config": to_hf(config), "seed": job["seed"], "seconds": 60 * job["minutes"],
        "points": POINTS, "warmup_share": recipe.optim.schedule.warmup_share, "weight_decay": 0.01, "timed": _TIMED,
        "threads": len(os.sched_getaffinity(0)), "folder": str(folder),
    }  # fmt: skip
    script = Path(__file__).with_name("learning_peer.py")
    words = [job["peer"], str(script), json.dumps(asked)]
    # Not our PYTHONPATH: the peer's environment has packages of its own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    peer = subprocess.Popen(words, stdin=subprocess.PIPE, env=environment)
    assert peer.stdin is not None
    _feed(peer.stdin, batches)
    if peer.wait():
        raise SystemExit(f"the peer ended with {peer.returncode}")
    batches.close()
    found = json.loads((folder / "peer.json").read_text())
    judge = Judge(config, job["corpus"], recipe.length, job["eval_examples"])
    curve = []
    for point in found["curve"]:
        model = open_source(folder / point.pop("model"))
        curve.append(point | judge.scores_of_arrays(model.params))
    write_model(folder / "model", config, job["corpus"], model.params)
    pieces = found["steps"] * recipe.batch * recipe.length
    return measured(found["steps"], pieces, found["cpu_seconds"], found["wall_seconds"], curve) | found["versions"]


def _feed(pipe: IO[bytes], batches: Any) -> None:
    """Writes batches, each as the length of an .npz in 8 bytes and the .npz, until the peer has enough."""
    import numpy as np

    with contextlib.suppress(BrokenPipeError), pipe:
        for batch in batches:
            packed = io.BytesIO()
            np.savez(packed, **batch)
            pipe.write(len(packed.getvalue()).to_bytes(8) + packed.getvalue())
            pipe.flush()


# ---- fine-tuning


def finetuned(job: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """Scores of short fine-tuning runs from the row's model: two tasks of docstrings, and a table of the user's."""
    from albert_jax.engine.checkpoint import CheckpointConfig
    from albert_jax.experiment import Experiment
    from albert_jax.model.config import albert
    from albert_jax.optim import AdamW, Schedule
    from albert_jax.tasks import Classification, Tagging
    from albert_jax.telemetry.run import TelemetryConfig
    from albert_jax.train import train

    docs = {"data": job["pydocs"], "max_length": 64, "eval_examples": 600, "baselines": False}
    tasks = {
        "classification": (Classification(**docs, examples=400), "accuracy"),
        "tagging": (Tagging(**docs), "f1"),
    }
    if job["tsv"]:
        files = {name: (path,) for name, path in zip(("train", "dev"), job["tsv"], strict=True)}
        tasks["tsv"] = (Classification(**files, max_length=64, baselines=False), "accuracy")
    found = {}
    for name, (task, headline) in tasks.items():
        experiment = Experiment(
            name=name, model=albert("small", vocab_size=0, scan=False), model_of_init=True, task=task,
            optim=AdamW(peak_lr=5e-4, schedule=Schedule(warmup_share=0.1)), steps=job["finetune_steps"], batch_size=32,
            eval_batch_size=128, eval_every=0, init=str(folder / "model"), seed=job["seed"],
            checkpoint=CheckpointConfig(every=job["finetune_steps"], keep=1),
            telemetry=TelemetryConfig(log_every=50, tensorboard=False),
        )  # fmt: skip
        scores = train(experiment, folder / name)
        found[name] = round(scores[headline], 5)
    return found


def main() -> None:
    job_file, result = map(Path, sys.argv[1:])
    job = json.loads(job_file.read_text())
    # Before JAX is imported: its threads are as many as the cores that the process may use.
    os.sched_setaffinity(0, job["cpus"])
    from albert_jax.commands.environment import set_up_jax

    set_up_jax()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = (run_peer if job["peer_row"] else run_ours)(job, folder)
        if job["finetune_steps"]:
            found["finetuned"] = finetuned(job, folder)
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
