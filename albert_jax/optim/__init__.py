"""Optimizers: `base.Optimizer` and one file for each kind."""

from albert_jax.optim.adamw import AdamW as AdamW
from albert_jax.optim.base import Optimizer as Optimizer
from albert_jax.optim.base import Schedule as Schedule
from albert_jax.optim.lamb import Lamb as Lamb
from albert_jax.optim.muon import Muon as Muon
