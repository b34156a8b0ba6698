"""ALBERT (Lan et al. 2019, "A Lite BERT") in JAX: pretraining, fine-tuning, restoring.

Importing the package touches no device and imports no optional dependency.
"""

__version__ = "0.1.0"
