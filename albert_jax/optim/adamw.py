"""Adam with decoupled weight decay."""

from dataclasses import dataclass
from typing import Any

import optax

from albert_jax.fields import knob
from albert_jax.optim import links
from albert_jax.optim.base import RATE, Optimizer


@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019); biases and LayerNorms are not decayed."""

    peak_lr: float = knob(2e-5, at_least=0, advice=RATE)  # learning rate at the end of warm-up
    b1: float = knob(0.9, at_least=0, below=1)  # decay of the running mean of gradients
    b2: float = knob(0.999, at_least=0, below=1)  # decay of the running mean of squared gradients
    eps: float = knob(1e-6, above=0)  # added to the root of the second moment
    weight_decay: float = knob(0.01, at_least=0)  # times the parameter, added to the update
    bias_correction: bool = True  # correct the moments for their start at 0; the original's fine-tuning does not

    def build(self, total_steps: int, params: Any) -> optax.GradientTransformation:
        scale = optax.scale_by_adam if self.bias_correction else links.scale_by_uncorrected_moments
        return self.chain(
            total_steps,
            params,
            moments=scale(self.b1, self.b2, self.eps),
            decay=optax.add_decayed_weights(self.weight_decay, mask=links.adapts),
        )
