"""Makes google_data/: a corpus, a vocabulary, records of the original's data tool and what they look like in numbers.

    python tests/goldens/make_google_data.py --original FOLDER

Needs Python 3.7, tensorflow 1.15.5, tensorflow-hub 0.7.0, protobuf < 3.21, numpy < 1.19, sentencepiece 0.2.0, and
FOLDER/albert, a checkout of google-research/albert (commit b772393; the PyPI package albert-tensorflow has no data
tool). Runs some ten minutes. Writes

    corpus.txt, spiece.model          one sentence a line, blank lines between documents; 700 pieces
    statistics.json                   `pretraining_statistics.statistics` of the tool's records, by sequence length
    examples.tfrecord                 40 records of length 128 as the tool wrote them
    examples.json                     what TensorFlow reads from them
"""

import argparse
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import sentencepiece
from pretraining_statistics import statistics

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "google_data")
# sequence length -> copies of the corpus: enough that the shares below are known to a few thousandths
COPIES = {128: 300, 512: 300}
KEPT = 40  # records in examples.tfrecord
FIELDS = {
    "input_ids": "input_ids", "segment_ids": "segment_ids", "input_mask": "mask",
    "masked_lm_positions": "masked_positions", "masked_lm_ids": "masked_ids", "masked_lm_weights": "masked_weights",
    "next_sentence_labels": "order_label",
}  # fmt: skip
RUN = """
import sys, numpy
sys.path.insert(0, sys.argv.pop(1))
numpy.random.seed(1)  # the tool draws span lengths from this generator and never seeds it
import tensorflow.compat.v1 as tf
from albert import create_pretraining_data as tool
for flag in ("input_file", "output_file", "vocab_file"):
    tool.flags.mark_flag_as_required(flag)
tf.logging.set_verbosity(tf.logging.ERROR)
tf.app.run(tool.main)
"""


def corpus():
    """Documents of one sentence, of a few, of dozens and of hundreds, in words of a made-up language."""
    rng = random.Random(7)
    syllables = [c + v for c in "bcdfglmnprstvz" for v in "aeiou"]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(900)]
    words += ["don't", "1984", "3rd", "e-mail", "(see", "below)", "naïve", "Über", "42", "a.b", "мир", "n/a"] * 4
    rng.shuffle(words)
    weights = [1.0 / (rank + 5) for rank in range(len(words))]
    documents = []
    for count, shortest, longest in ((60, 1, 1), (50, 2, 4), (40, 8, 40), (8, 100, 160)):
        for _ in range(count):
            sentences = []
            for _ in range(rng.randint(shortest, longest)):
                length = max(2, int(rng.lognormvariate(2.2, 0.6)))
                sentences.append(" ".join(rng.choices(words, weights, k=length)) + rng.choice(".?!"))
            documents.append(sentences)
    documents[3] = [" ".join(rng.choices(words, weights, k=300)) + "."]  # a sentence that no example holds
    documents[70][1] = " ".join(rng.choices(words, weights, k=400)) + "."
    rng.shuffle(documents)
    return documents


def read(path, limit=None):
    """The tool's records as arrays, by TensorFlow, under our names."""
    import tensorflow.compat.v1 as tf

    columns = {}
    for number, record in enumerate(tf.python_io.tf_record_iterator(path)):
        if number == limit:
            break
        for name, feature in tf.train.Example.FromString(record).features.feature.items():
            values = feature.float_list.value or feature.int64_list.value
            columns.setdefault(FIELDS.get(name, name), []).append(list(values))
    return {
        name: np.array(rows, np.float32 if name == "masked_weights" else np.int32) for name, rows in columns.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", required=True)
    original = os.path.abspath(parser.parse_args().original)
    sys.path.insert(0, original)
    from albert import create_pretraining_data as tool
    from albert import tokenization

    os.makedirs(HERE, exist_ok=True)
    documents = corpus()
    text = os.path.join(HERE, "corpus.txt")
    with open(text, "w", encoding="utf-8") as file:
        file.write("\n\n".join("\n".join(sentences) for sentences in documents) + "\n")
    model = os.path.join(HERE, "spiece.model")
    sentences = [tokenization.preprocess_text(line, lower=True) for document in documents for line in document]
    trained = io.BytesIO()  # not a file: its path would go into the model
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences), model_writer=trained, vocab_size=700, pad_id=0,
        unk_id=1, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        user_defined_symbols=["(", ")", '"', "-", ".", "–", "£", "€"], character_coverage=0.99995,
        normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    with open(model, "wb") as file:
        file.write(trained.getvalue())
    tokenizer = tokenization.FullTokenizer(vocab_file=None, do_lower_case=True, spm_model_file=model)
    pieces = [
        [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(tokenization.preprocess_text(line, lower=True)))
         for line in document]
        for document in documents
    ]  # fmt: skip
    starts = np.array([tool._is_start_piece_sp(tokenizer.inv_vocab[i]) for i in range(len(tokenizer.vocab))])

    found = {}
    for length, copies in COPIES.items():
        folder = tempfile.mkdtemp()
        output = os.path.join(folder, "examples.tfrecord")
        subprocess.run(
            [sys.executable, "-c", RUN, original, "--input_file=" + text, "--output_file=" + output,
             "--vocab_file=" + model, "--spm_model_file=" + model, "--do_lower_case=True",
             f"--max_seq_length={length}", "--max_predictions_per_seq=20", f"--dupe_factor={copies}"],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        examples = read(output)
        found[str(length)] = dict(copies=copies, **statistics(examples, pieces, starts))
        if length == 128:
            keep(output)
        shutil.rmtree(folder)
    with open(os.path.join(HERE, "statistics.json"), "w") as file:
        json.dump(dict(found, word_starts="".join("01"[int(start)] for start in starts)), file, indent=1)
    print(json.dumps(found, indent=1))


def keep(records):
    """The first records of a file, and what TensorFlow reads from them."""
    import tensorflow.compat.v1 as tf

    path = os.path.join(HERE, "examples.tfrecord")
    with tf.python_io.TFRecordWriter(path) as writer:
        for number, record in enumerate(tf.python_io.tf_record_iterator(records)):
            if number == KEPT:
                break
            writer.write(record)
    columns = {name: values.tolist() for name, values in read(path).items()}
    with open(os.path.join(HERE, "examples.json"), "w") as file:
        json.dump(columns, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
