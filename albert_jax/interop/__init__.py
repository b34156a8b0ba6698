"""Models of others and back: Google's TF 1 checkpoints without TensorFlow, Hugging Face directories without torch, one
table of names read in both directions."""
