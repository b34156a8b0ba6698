r"""Named entities of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003).

Paper row: none in ALBERT's; five epochs, batch 16, 2e-5, length 128, no warm-up.
Command:   python -m albert_jax train --config configs/finetune_conll2003.py --workdir runs/conll2003 --init PRETRAINED
           python -m albert_jax evaluate --workdir runs/conll2003 --split test
Files:     the data set `conll2003` of TFDS, downloaded when it is not there; or your copy of it, with
           --task.train eng.train --task.dev eng.testa --task.test eng.testb
Hardware:  whatever the pretrained model needs for 16 sentences of 128 pieces; 14,041 training sentences.
Vary:      seeds --n 5 in the place of train; --task.max-length 256 for fewer sentences read in windows.
Status:    not yet run.
"""

from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW
from albert_jax.tasks import Tagging
from albert_jax.telemetry.run import TelemetryConfig

DATASET = ("tfds:conll2003",)
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")


def experiment() -> Experiment:
    return Experiment(
        name="finetune_conll2003",
        model=albert("base", vocab_size=0),
        model_of_init=True,
        task=Tagging(train=DATASET, dev=DATASET, test=DATASET, labels=TAGS, max_length=128),
        optim=AdamW(peak_lr=2e-5),
        steps=0,
        epochs=5,
        batch_size=16,
        eval_every=0,
        checkpoint=CheckpointConfig(every=1000, keep=1),
        telemetry=TelemetryConfig(log_every=10),
    )
