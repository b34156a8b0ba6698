"""A labelled file to batches: tables, CoNLL columns, TFDS, and a user's own texts."""
