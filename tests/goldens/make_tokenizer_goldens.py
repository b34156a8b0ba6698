"""Makes tokenizer/: two small vocabularies and what the original's code makes of awkward strings.

    python tests/goldens/make_tokenizer_goldens.py

Needs Python 3.7, albert-tensorflow 1.1 (for its tokenization.py), tensorflow 1.15.5, protobuf < 3.21, numpy < 1.19 and
sentencepiece 0.2.0. Writes

    spiece.model     1,000 pieces with the layout of the released models, upper and lower case
    lower.model      200 pieces of lower case alone, which know no letter of "[MASK]"
    vocab.txt        a WordPiece vocabulary laid out like the Chinese one
    golden.json      pieces and ids of `awkward_strings.strings()`, by (vocabulary, lower case or not)
"""

import io
import json
import os

import sentencepiece
import six
from albert import tokenization
from awkward_strings import strings

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
TEXT = """
The value of a name is the words that it stands for in the text.
A model reads the pieces of a word and gives each of them a vector.
What the model has not seen before it cuts into smaller pieces, down to single letters.
Numbers are cut where a comma follows, so that the same number is the same piece with and without it.
When the quoted words are in the middle of a sentence, the quotation marks stay where they are.
He said that it was not the first time, nor would it be the last one.
She did not know what to do with the letters that came from the other side of the country.
People have always been fond of lists, of names and of numbers, and of lists of names and numbers.
It is raining, and the river is rising; the bridge will be closed before the evening comes.
Nobody knows how many there were: some say ten, some say twenty, some say a thousand.
""".strip().split("\n")
FOREIGN = [
    "Привет, мир и люди",
    "Ελληνικά και αγγλικά",
    "今天天气很好 中文 日本語のテキスト",
    "שלום עולם",
    "한국어 텍스트",
]


def train():
    """spiece.model, from sentences as they are and in lower case and from lists of numbers; lower.model."""
    lines = []
    for number in range(400):
        lines.append(f"The counts were {number}, {number + 1}, {2 * number},{number} and {number}.")
        lines.append(f"({number % 30}, {number % 20}) or x{number % 12}, y{number % 12},")
    lines += (TEXT + FOREIGN) * 20
    lines += [line.lower() for line in lines]
    lines = [tokenization.preprocess_text(line) for line in lines]
    model("spiece", lines, 1000)
    # Without SentencePiece's own normalisation, whose table is most of a small model's file.
    model("lower", [line.lower() for line in lines], 200, normalization_rule_name="identity")


def model(name, lines, size, **choices):
    trained = io.BytesIO()  # not a file: its path would go into the model
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines), model_writer=trained, vocab_size=size, pad_id=0, unk_id=1,
        bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        user_defined_symbols=["(", ")", '"', "-", ".", "–", "£", "€"], character_coverage=0.99995, minloglevel=2,
        **choices
    )  # fmt: skip
    with open(os.path.join(HERE, name + ".model"), "wb") as file:
        file.write(trained.getvalue())


def word_pieces():
    """vocab.txt: specials at 0 and from 10 on, letters, and the words of the text whole and as endings."""
    pieces = (
        ["[PAD]"]
        + [f"[unused{number}]" for number in range(1, 10)]
        + ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "<T>"]
    )
    letters = (
        [chr(point) for point in range(33, 127)]
        + list("£€–“”‘’，。「」《》今天气很好中文日本語のテキスト字豈한국")
        + ["мир", "ё"]
    )
    words = sorted(
        {word.strip(".,;:") for line in TEXT for word in line.split()} | {"DON", "Caf", "naive", "cafe", "12", "345"}
    )
    endings = ["##" + letter for letter in "abcdefghijklmnopqrstuvwxyzAXM0123456789é"] + ["##" + word for word in words]
    for piece in letters + words + endings:
        if piece not in pieces:
            pieces.append(piece)
    with open(os.path.join(HERE, "vocab.txt"), "w", encoding="utf-8") as file:
        file.write("".join(piece + "\n" for piece in pieces))


def main():
    if not os.path.isdir(HERE):
        os.makedirs(HERE)
    train()
    word_pieces()
    texts = strings()
    golden = {"strings": texts}
    for file in ("spiece.model", "lower.model", "vocab.txt"):
        for lower in (True, False):
            path = os.path.join(HERE, file)
            model = path if file.endswith(".model") else None
            tokenizer = tokenization.FullTokenizer(path, lower, model)
            rows = []
            for text in texts:
                if model:  # as create_pretraining_data and the classifiers do before they tokenize
                    text = tokenization.preprocess_text(text, lower=lower)
                pieces = tokenizer.tokenize(text)
                ids = tokenizer.convert_tokens_to_ids(pieces)
                rows.append([[six.ensure_text(piece) for piece in pieces], ids])  # pieces cut again come as bytes
            golden[f"{file} {'uncased' if lower else 'cased'}"] = rows
    with open(os.path.join(HERE, "golden.json"), "w") as file:
        json.dump(golden, file, separators=(",", ":"))
    print(len(texts), "strings")


if __name__ == "__main__":
    main()
