"""The corpus that needs no download: the English of installed docstrings."""
