"""Muon for the matrices of the shared block, Adam for everything else."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from albert_jax.fields import knob
from albert_jax.optim import links
from albert_jax.optim.base import RATE, Optimizer
from albert_jax.trees import map_with_path


@dataclass(frozen=True)
class Muon(Optimizer):
    """Orthogonalised momentum (Jordan 2024) for the kernels of the encoder; tables, biases, LayerNorms and heads take
    AdamW's step. Both share one learning rate: an orthogonal update is scaled to the root mean square `rms`, about that
    of Adam's (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2)."""

    peak_lr: float = knob(3e-3, at_least=0, advice=RATE)  # learning rate at the end of warm-up
    momentum: float = knob(0.95, at_least=0, below=1)  # decay of the mean of gradients that is orthogonalised
    rms: float = knob(0.2, above=0)  # root mean square of an orthogonal update before the rate
    b1: float = knob(0.9, at_least=0, below=1)  # of Adam: decay of the running mean of gradients
    b2: float = knob(0.98, at_least=0, below=1)  # of Adam: decay of the running mean of squared gradients
    eps: float = knob(1e-8, above=0)  # of Adam: added to the root of the second moment
    weight_decay: float = knob(0.01, at_least=0)  # times the parameter, added to the update

    def build(self, total_steps: int, params: Any) -> optax.GradientTransformation:
        orthogonal = optax.chain(
            scale_by_muon(beta=self.momentum, weight_dimension_numbers=_matrices), _scale_to_rms(self.rms)
        )
        return self.chain(
            total_steps,
            params,
            moments=optax.partition(
                {"muon": orthogonal, "adam": optax.scale_by_adam(self.b1, self.b2, self.eps)}, _kinds
            ),
            decay=optax.add_decayed_weights(self.weight_decay, mask=links.adapts),
        )


def _kinds(params: Any) -> Any:
    """Which rule each parameter takes: "muon" for the kernels [in, out] of the encoder's blocks."""

    # Tables are left out as in Jordan 2024: a row of them is moved by its own pieces only, and making rows orthogonal
    # would move those that a batch never showed.
    def kind(path: str, x: Any) -> str:
        return "muon" if "/encoder/" in path and path.endswith("/kernel") else "adam"

    return map_with_path(kind, params)


def _matrices(updates: Any) -> Any:
    return jax.tree.map(lambda _: MuonDimensionNumbers(reduction_axis=0, output_axis=1), updates)


def _scale_to_rms(rms: float) -> optax.GradientTransformation:
    """Multiplies an orthogonal [m, n] update, whose root mean square is 1 / sqrt(max(m, n)), to have `rms`."""
    return optax.stateless_with_tree_map(lambda update, _: update * (rms * jnp.sqrt(max(update.shape))))
