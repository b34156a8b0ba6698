"""A string to pieces: normalisation, sentences, SentencePiece and WordPiece."""
