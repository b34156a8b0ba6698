"""Prints how fast `Predictor` answers beside the forward pass of a training step, both of one model in one run.

    python benchmarks/predict.py [--size mini] [--length 64] [--texts 1024]

The forward pass is that of the loss: [B, S] pieces that are on the device already, nothing read, nothing told. Predict
is whole: texts are split, encoded, put together by length, computed, and written as JSON. They take turns, so that
other work on the machine hits each; the least time of each counts. "full" texts fill their rows, so that both compute
the same; "mixed" are of every length, which predict computes in shorter rows. A token is a piece of a text, [CLS] or
[SEP]; what fills up rows is none.
"""

import argparse
import dataclasses
import json
import math
import pydoc_data.topics
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.engine.checkpoint import Checkpoints
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import bind, create, definition, lay_out
from albert_jax.engine.step import dropout_keys, drops
from albert_jax.experiment import FILE, Experiment, to_dict
from albert_jax.model.config import albert
from albert_jax.optim import AdamW
from albert_jax.predict import Predictor
from albert_jax.tasks import Classification, Tagging
from albert_jax.telemetry.tables import print_table


def make_run(folder: Path, task: Any, size: str, tokenizer: Tokenizer) -> Any:
    """A workdir with random weights; returns the open task."""
    tokenizer.save(folder / "vocab")
    task = dataclasses.replace(task, train=("none",), vocab=str(folder / "vocab"))
    model = albert(size, vocab_size=0, scan=False)
    opened = task.open(dataclasses.replace(model, max_positions=max(model.max_positions, task.max_length)), 0)
    experiment = Experiment("benchmark", opened.config, opened.resolved, AdamW(), steps=1, batch_size=64,
                            mesh=MeshConfig(devices=1))  # fmt: skip
    (folder / FILE).write_text(json.dumps(to_dict(experiment)))
    checkpoints = Checkpoints(folder, writing=True)
    checkpoints.save(create(opened, optax.identity(), 0, lay_out(opened, experiment.mesh)), {})
    checkpoints.close()
    return opened


def make_texts(tokenizer: Tokenizer, words: list[str], count: int, length: int, mixed: bool) -> list[str]:
    """Running words of documentation, as many as fill `length` pieces or a share of it drawn evenly."""
    draw, found, place = random.Random(0), [], 0
    for _ in range(count):
        room = length - 2 if not mixed else draw.randint(4, length - 2)
        text: list[str] = []
        size = 0
        while size < room:
            size += len(tokenizer.encode(words[place % len(words)]))
            text.append(words[place % len(words)])
            place += 1
        found.append(" ".join(text[:-1] if size > room else text))
    return found


def least_seconds(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The least time of each over `rounds`, in turn; a first round compiles."""
    least = dict.fromkeys(works, math.inf)
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                least[name] = min(least[name], time.perf_counter() - start)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="mini", help="tiny, mini, base, ... (default: mini, the demo's)")
    parser.add_argument("--length", type=int, default=64, help="pieces of the longest rows (S)")
    parser.add_argument("--batch-size", type=int, default=64, help="rows of a batch (B)")
    parser.add_argument("--texts", type=int, default=1024, help="texts that are answered; a multiple of B")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of each part; the least is printed")
    asked = parser.parse_args()
    topics = " ".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    words = [word for word in topics.split() if word.isalpha()]
    tokenizer = Tokenizer.train([" ".join(words[i : i + 20]) for i in range(0, len(words), 20)], 1900)
    full = make_texts(tokenizer, words, asked.texts, asked.length, mixed=False)
    mixed = make_texts(tokenizer, words, asked.texts, asked.length, mixed=True)
    B, S, table = asked.batch_size, asked.length, []
    tasks = {
        "classification": Classification(labels=("a", "b", "c"), max_length=S),
        "tagging": Tagging(labels=("O", "B-X", "I-X"), max_length=S),
    }
    for name, task in tasks.items():
        with tempfile.TemporaryDirectory() as folder:
            opened = make_run(Path(folder), task, asked.size, tokenizer)
            predictor = Predictor(folder, batch_size=B)
        graph, random_step = definition(opened), drops(opened.config)
        rows_full = [row for (row,) in predictor.answers.rows([predictor.answers.read(text) for text in full[:B]])]
        batch = {key: jnp.asarray(value) for key, value in predictor.batch(rows_full, S).items()}

        def loss(params: Any, batch: Any, opened: Any = opened, graph: Any = graph, drop: bool = random_step) -> Any:
            keys = dropout_keys(0, jnp.int32(0), jnp.int32(0), B) if drop else None
            sums, _ = opened.sums(bind(graph, params), batch, keys)
            return {key: total for key, (total, _) in sums.items()}

        forward = jax.jit(loss)
        params = predictor._params

        def passes(forward: Any = forward, params: Any = params, batch: Any = batch) -> None:
            for _ in range(asked.texts // B):
                out = forward(params, batch)
            jax.block_until_ready(out)

        def answer(texts: list[str], predictor: Predictor = predictor) -> None:
            for record in predictor(texts):
                json.dumps(record, ensure_ascii=False)

        tokens = {"full": 0, "mixed": 0}
        for kind, texts in (("full", full), ("mixed", mixed)):
            before = predictor.tally.tokens
            answer(texts)
            tokens[kind] = predictor.tally.tokens - before
        works: dict[str, Callable[[], Any]] = {
            "forward": passes, "full": lambda answer=answer: answer(full), "mixed": lambda answer=answer: answer(mixed)
        }  # fmt: skip
        seconds = least_seconds(works, asked.rounds)
        base = asked.texts * S / seconds["forward"]
        table.append((name, "forward pass of the loss", asked.texts * S, seconds["forward"], f"{base:,.0f}", ""))
        for kind in ("full", "mixed"):
            rate = tokens[kind] / seconds[kind]
            table.append((name, f"predict, {kind}", tokens[kind], seconds[kind], f"{rate:,.0f}", f"{rate / base:.0%}"))
    print_table(
        f"ALBERT-{asked.size}, float32, batch {B} x {S}, {asked.texts:,} texts, {jax.devices()[0].device_kind}",
        ("task", "what", "tokens", "seconds", "tokens/s", "of the forward pass"),
        table,
    )


if __name__ == "__main__":
    main()
