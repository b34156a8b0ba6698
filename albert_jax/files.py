"""Small files of ours, read and written in one way."""
