"""Files to a document store: the work of `prepare`."""
