"""Text to batches. Rooms: text, store, pydocs, corpus (`prepare`), examples (pretraining), labelled (fine-tuning)."""
