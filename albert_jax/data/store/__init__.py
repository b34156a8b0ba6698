"""The document store: where its files are, how a document is read."""
