"""Text to batches: vocabulary, corpora, document store, pairs, masks, loader.

prepare.py              the story of `prepare`: corpora -> vocabulary -> shards -> one dataset
  corpora.py            what --corpus accepts; lines.py, text_layout.py, tfds_corpus.py, pydocs*.py
  tokenizers.py         which vocabulary a file is; tokenizer.py (SentencePiece; text.py, vocabulary.py, words.py) and
                        wordpiece.py (the Chinese models) give its pieces and ids
  shards.py, join.py    one unit of work, and the last step over all; workers.py runs the units
  records.py, layout.py one document as bytes, and where the files of a prepared directory are
store.py                the prepared documents by index
pairs.py, masking.py    examples on the fly, each a function of (seed, index); google_pairs.py and google_masks.py are
                        the same by the original's rules
google_records.py       examples that the original's tool wrote; tfrecords.py, crc32c.py
loader.py               batches of examples, resumable
"""
