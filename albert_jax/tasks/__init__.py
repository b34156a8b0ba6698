"""Tasks: what is trained and how it is scored. The loop in `train.py` serves them all.

A new kind of task is one file with a `Task` and what it opens as; see `base.py`.
"""

from albert_jax.data.examples.pairs import PairConfig
from albert_jax.tasks.base import Task as Task
from albert_jax.tasks.classification import Classification as Classification
from albert_jax.tasks.pretrain import Pretrain as Pretrain
from albert_jax.tasks.tagging import Tagging as Tagging


def pretraining(length: int = 512) -> Task:
    """Pretraining as the paper has it, of examples of `length` pieces: what is benchmarked and shown as an example."""
    return Pretrain(pairs=PairConfig(max_length=length))
