r"""ALBERT-xlarge (v2: no dropout) with the paper's recipe.

Paper row: ALBERT-xlarge, table 1 (24 layers, D 2048, E 128, 16 heads; 60 M parameters), recipe of section 4.1:
           batch 4096, LAMB 1.76e-3, 125,000 steps of which 3,125 warm up, length 512.
Command:   python -m albert_jax prepare --corpus 'text/*.txt' --out runs/corpus --vocab-size 30000
           python -m albert_jax train --config configs/pretrain_xlarge.py --workdir runs/xlarge \
               --task.data runs/corpus
Hardware:  a TPU slice; 2.0e21 model FLOPs, by arithmetic 22 hours of v5e-256 at 50 % of its peak.
Expected:  paper, table 2: average 85.5 over five development sets, trained on Wikipedia and BookCorpus.
Vary:      --batch-size 256 --optim.peak-lr 4.4e-4 --steps 2000000 (rate by the root of the batch) on one machine.
Status:    not yet run.
"""

from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import Lamb, Schedule
from albert_jax.tasks import Pretrain


def experiment() -> Experiment:
    return Experiment(
        name="pretrain_xlarge",
        model=albert("xlarge", compute_dtype="bfloat16", remat="full"),
        task=Pretrain(data="runs/corpus"),
        optim=Lamb(peak_lr=1.76e-3, schedule=Schedule(warmup_steps=3_125)),
        steps=125_000,
        batch_size=4096,
    )
