"""LAMB exactly as ALBERT trained with it."""

from dataclasses import dataclass
from typing import Any

import optax

from albert_jax.fields import knob
from albert_jax.optim import links
from albert_jax.optim.base import RATE, Optimizer


@dataclass(frozen=True)
class Lamb(Optimizer):
    """Layer-wise adaptive rates (You et al. 2019) in the variant of the original code.

    It differs from `optax.lamb`: moments are not bias-corrected, and biases and LayerNorms leave both the weight decay
    and the trust ratio.
    """

    peak_lr: float = knob(1.76e-3, at_least=0, advice=RATE)  # at the end of warm-up; the paper's, for batch 4096
    b1: float = knob(0.9, at_least=0, below=1)  # decay of the running mean of gradients
    b2: float = knob(0.999, at_least=0, below=1)  # decay of the running mean of squared gradients
    eps: float = knob(1e-6, above=0)  # added to the root of the second moment
    weight_decay: float = knob(0.01, at_least=0)  # times the parameter, added to the update before the trust ratio

    def build(self, total_steps: int, params: Any) -> optax.GradientTransformation:
        return self.chain(
            total_steps,
            params,
            moments=links.scale_by_uncorrected_moments(self.b1, self.b2, self.eps),
            decay=optax.add_decayed_weights(self.weight_decay, mask=links.adapts),
            trust=links.scale_by_trust_ratio(),
        )
