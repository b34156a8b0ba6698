r"""More pretraining of a released or converted ALBERT, on text of one's own.

Paper row: none; shape, heads and activation are those of the model that --init names, dropout 0 as in v2.
Command:   python -m albert_jax convert albert_base_v2.tar.gz runs/albert_base_v2
           python -m albert_jax prepare --corpus 'text/*.txt' --out runs/corpus --vocab runs/albert_base_v2/vocab
           python -m albert_jax train --config configs/continue_pretraining.py --workdir runs/continued \
               --init runs/albert_base_v2 --task.data runs/corpus
Hardware:  one accelerator; 7.5e16 model FLOPs a thousand steps at the size of pretrain_base.
Expected:  the evaluation at step 0 is that of the converted model; the loss on one's own text falls from there. No
           optimizer state comes with a converted model: the moments start at zero, under a warm-up of their own.
Vary:      --optim.peak-lr: a tenth of the rate that it was pretrained with is a cautious start.
Status:    step 0 and the first steps run by the tests on a tiny model; a released one not yet.
"""

from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import Lamb, Schedule
from albert_jax.tasks import Pretrain


def experiment() -> Experiment:
    return Experiment(
        name="continue_pretraining",
        model=albert("base", compute_dtype="bfloat16", remat="dots"),
        model_of_init=True,
        task=Pretrain(data="runs/corpus"),
        optim=Lamb(peak_lr=4.4e-5, schedule=Schedule(warmup_steps=1_000)),
        steps=20_000,
        batch_size=256,
    )
