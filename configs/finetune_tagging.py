r"""Tagging of words (named entities) on your own files.

Paper row: none; rate, epochs, batch and warm-up go by the sizes of model and data (albert_jax/tasks/recipes.py).
           Each is overridden by its flag.
Command:   python -m albert_jax train --config configs/finetune_tagging.py --workdir runs/tagging \
               --task.train train.conll --task.dev dev.conll --task.test test.conll
           python -m albert_jax evaluate --workdir runs/tagging --split test
Files:     a word a line, its tag in the last column (IOB1, IOB2 or BIOES), a blank line after each sentence; several
           files may follow each option.
Init:      the model in the box, albert_jax/small, or what --init names.
Hardware:  whatever the pretrained model needs for 32 sentences of 128 pieces.
Vary:      --optim.rates '{"^albert/": 0}' trains the head alone (frozen encoder, linear probe).
           --stopping.patience 3 ends when F1 has not risen for three evaluations. --micro-batches 4 saves memory.
           seeds --n 5 in the place of train prints median, least, greatest and degenerate runs: fine-tuning varies.
Status:    not yet run with a model of the paper's size.
"""

from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW
from albert_jax.tasks import Tagging
from albert_jax.telemetry.run import TelemetryConfig


def experiment() -> Experiment:
    return Experiment(
        name="finetune_tagging",
        model=albert("base", vocab_size=0),
        model_of_init=True,
        task=Tagging(),
        recipe=True,  # what is 0 here: by the sizes of model and data, from albert_jax/tasks/recipes.py
        optim=AdamW(peak_lr=0),
        steps=0,
        batch_size=0,
        eval_every=0,
        checkpoint=CheckpointConfig(every=1000, keep=1),
        telemetry=TelemetryConfig(log_every=10),
    )
