"""One optimizer step on any mesh: where arrays live, what is carried from step to step, how it is saved."""
