"""Text to batches: vocabulary, corpora, document store, pairs, masks, loader.

prepare.py              the story of `prepare`: corpora -> vocabulary -> shards -> one dataset
  corpora.py            what --corpus accepts; lines.py, text_layout.py, tfds_corpus.py, pydocs*.py
  behind it tokenizer.py          pieces and ids; text.py, vocabulary.py, words.py behind it shards.py,
  join.py    one unit of work, and the last step over all; workers.py runs the units records.py,
  layout.py one document as bytes, and where the files of a prepared directory are
store.py                the prepared documents by index
pairs.py, masking.py    examples on the fly, each a function of (seed, index)
loader.py               batches of examples, resumable
"""
