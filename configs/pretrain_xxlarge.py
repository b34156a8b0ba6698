r"""ALBERT-xxlarge (v2: no dropout) with the paper's recipe.

Paper row: ALBERT-xxlarge, table 1 (12 layers, D 4096, E 128, 64 heads; 235 M parameters), recipe of section 4.1:
           batch 4096, LAMB 1.76e-3, 125,000 steps of which 3,125 warm up, length 512.
Command:   python -m albert_jax prepare --corpus 'text/*.txt' --out runs/corpus --vocab-size 30000
           python -m albert_jax train --config configs/pretrain_xxlarge.py --workdir runs/xxlarge \
               --task.data runs/corpus
Hardware:  a TPU slice; 3.9e21 model FLOPs, by arithmetic 43 hours of v5e-256 at 50 % of its peak.
Expected:  paper, table 2: average 88.7 over five development sets, trained on Wikipedia and BookCorpus.
Vary:      --batch-size 256 --optim.peak-lr 4.4e-4 --steps 2000000 (rate by the root of the batch) on one machine.
Status:    not yet run.
"""

from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import Lamb, Schedule
from albert_jax.tasks import Pretrain


def experiment() -> Experiment:
    return Experiment(
        name="pretrain_xxlarge",
        model=albert("xxlarge", compute_dtype="bfloat16", remat="full"),
        task=Pretrain(data="runs/corpus"),
        optim=Lamb(peak_lr=1.76e-3, schedule=Schedule(warmup_steps=3_125)),
        steps=125_000,
        batch_size=4096,
    )
