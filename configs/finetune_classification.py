r"""Classification or regression of texts in your own files.

Paper row: none; rate, epochs, batch and warm-up go by the sizes of model and data (albert_jax/tasks/recipes.py); from
           width 768 on rates are those of the paper's table 14. Each is overridden by its flag.
Command:   python -m albert_jax train --config configs/finetune_classification.py --workdir runs/classification \
               --task.train train.tsv --task.dev dev.tsv --task.test test.tsv
           python -m albert_jax evaluate --workdir runs/classification --split test
Files:     .tsv (no quoting), .csv or .jsonl with the columns text and label; others by
           --task.text-columns premise hypothesis --task.label-column gold. Also tfds:NAME[:SPLIT].
Init:      the model in the box, albert_jax/small, or what --init names.
Hardware:  whatever the pretrained model needs for 32 texts of 128 pieces.
Vary:      --task.target labels for several labels a text (a comma between them), number for a real value.
           --task.balance, or --task.class-weights '{"rare": 5}', where classes are of unequal size.
           --optim.rates '{"^albert/": 0}' trains the head alone (frozen encoder, linear probe).
           --stopping.patience 3 ends when the score has not improved for three evaluations, --stopping.score f1_macro
           names it. --micro-batches 4 saves memory. seeds --n 5 in the place of train shows how results vary.
Status:    not yet run with a model of the paper's size.
"""

from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW
from albert_jax.tasks import Classification
from albert_jax.telemetry.run import TelemetryConfig


def experiment() -> Experiment:
    return Experiment(
        name="finetune_classification",
        model=albert("base", vocab_size=0),
        model_of_init=True,
        task=Classification(),
        recipe=True,  # what is 0 here: by the sizes of model and data, from albert_jax/tasks/recipes.py
        optim=AdamW(peak_lr=0),
        steps=0,
        batch_size=0,
        eval_every=0,
        checkpoint=CheckpointConfig(every=1000, keep=1),
        telemetry=TelemetryConfig(log_every=10),
    )
