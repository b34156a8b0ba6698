"""Puts a pretrained run into the box, with its card; or prints the card's figures again.

    python -m benchmarks.box --workdir runs/small/pretrain --corpus runs/small/corpus     # writes albert_jax/box/small
    python -m benchmarks.box --figures --corpus runs/small/corpus                          # prints, writes nothing

The figures are of the model as it is in the box, float16 weights and float32 products, on all of the test split:
documents that it was not trained on. `launch/box.sh` makes corpus, model and box from nothing.
"""

import argparse
import csv
import dataclasses
import time
from pathlib import Path

import numpy as np

import albert_jax
from albert_jax import experiment as experiments
from albert_jax.data.examples.masking import MaskConfig
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import lay_out
from albert_jax.engine.step import make_eval_step
from albert_jax.evaluate import score
from albert_jax.experiment import Experiment
from albert_jax.interop import box
from albert_jax.interop.load import open_source
from albert_jax.tasks import Pretrain
from albert_jax.telemetry.tables import print_table

LENGTH = 128  # pieces of the examples that the figures are of


def figures(name: str, corpus: str) -> dict[str, tuple[float, float]]:
    """Score -> (of the model, of answering by the pieces' frequencies or by a coin), on the corpus' test split."""
    model, _ = albert_jax.load(box.PREFIX + name, head="pretrain")
    task = Pretrain(data=corpus, pairs=PairConfig(max_length=LENGTH), masks=MaskConfig(rate=0.15), eval_examples=0)
    opened = task.open(dataclasses.replace(model.config, vocab_size=0), 0)
    layout = lay_out(opened, MeshConfig())
    scores = score(opened, make_eval_step(opened, layout), model.params, layout, "test", 64)[0].scores
    rivals = {"order_accuracy": 0.5, "order_loss": float(np.log(2))} | opened.baselines("test")
    return {name: (scores[name], rivals[name]) for name in ("mlm_accuracy", "mlm_loss", "order_accuracy", "order_loss")}


def card(name: str, run: Experiment, step: int, found: dict[str, tuple[float, float]], corpus: Path, notes: str) -> str:
    """The text of the card."""
    with (corpus / "sources.tsv").open(newline="", encoding="utf-8") as file:
        sources = list(csv.DictReader(file, delimiter="\t"))
    characters = sum(int(row["characters"]) for row in sources)
    model, optim = run.model, run.optim
    seen = step * run.batch_size * run.task.max_length
    kind = type(optim).__name__
    rows = "\n".join(f"| {name.replace('_', ' ')} | {a:.3f} | {b:.3f} |" for name, (a, b) in found.items())
    table = "\n".join(
        f"| {row['package']} | {row['version']} | {row['licence']} | {int(row['characters']):,} |" for row in sources
    )
    return f"""# albert_jax/{name}

An ALBERT (Lan et al. 2019) of {model.layers} layers, width {model.hidden_size}, factor {model.embedding_size},
{model.heads} heads, for {model.vocab_size:,} lower-case pieces and up to {model.max_positions} positions, with heads
for masked pieces and sentence order. Float16 safetensors in Hugging Face's names: `--init albert_jax/{name}`, or
`albert_jax.load("albert_jax/{name}")`; transformers reads what `convert --to hf` makes of it.

## Figures on held-out text

Documents of the same packages that it was not trained on, {LENGTH} pieces an example, 15 % masked; beside each figure
what the pieces' frequencies, or a coin, reach. Printed on {time.strftime("%Y-%m-%d")} by
`python -m benchmarks.box --figures --corpus runs/small/corpus`.

| score | model | baseline |
|---|---|---|
{rows}

## How it was made

`launch/box.sh` makes one anew: the text of {len(sources)} Debian packages ({characters / 1e6:.0f} M characters of
English), pinned in `configs/pretrain_small.tsv`; `configs/pretrain_small.py`, seed {run.seed}: {step:,} steps of
{run.batch_size} x {run.task.max_length} pieces, {seen / 1e6:.1f} M pieces in all, {kind} up to {optim.peak_lr:g}.
{notes}

## What it is not good for

It is small and saw little text by the standards of released models: dictionaries, Bible commentaries, essays, manuals
and games' texts; almost no news, reviews or speech, and no language but English. It knows no facts to rely on, and
repeats what its sources say about people, religion and politics, much of it a century old. For scores that matter
start from a released ALBERT.

## Text and licences

The weights are Apache-2.0 like the package. No text is in the box; this is what it learned from.

| package | version | licence | characters |
|---|---|---|---|
{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workdir", default="", help="of the pretraining run")
    parser.add_argument("--corpus", required=True, help="directory that it was prepared as")
    parser.add_argument("--name", default="small", help="in the box: albert_jax/NAME")
    parser.add_argument("--step", type=int, default=0, help="steps for the card, should several runs have led here")
    parser.add_argument("--notes", default="", help="a sentence for the card about how it was trained")
    parser.add_argument("--figures", action="store_true", help="print the figures of the box that is there")
    options = parser.parse_args()
    if options.figures:
        found = figures(options.name, options.corpus)
    else:
        run, model = experiments.read(options.workdir), open_source(options.workdir)
        folder = box.add(model, options.name)
        found = figures(options.name, options.corpus)  # of the box, whose weights are rounded
        run = dataclasses.replace(run, model=model.config)
        text = card(options.name, run, options.step or run.steps, found, Path(options.corpus), options.notes)
        (folder / "README.md").write_text(text, encoding="utf-8")
        box.add(model, options.name)  # again, so that the card is on record
    title = f"{box.PREFIX}{options.name} on the test split of {options.corpus}"
    print_table(title, ["score", "model", "baseline"], [[name, *pair] for name, pair in found.items()])


if __name__ == "__main__":
    main()
