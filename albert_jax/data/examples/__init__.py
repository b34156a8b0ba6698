"""A store to batches: segment pairs, masks, and the loader; a function of (seed, index)."""
