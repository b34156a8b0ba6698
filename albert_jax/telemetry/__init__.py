"""What a person sees of a run: metrics, progress, curves, tables, the report."""
