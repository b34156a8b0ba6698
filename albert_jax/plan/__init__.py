"""A training step compiled for a slice that is not here, and what its program tells."""
