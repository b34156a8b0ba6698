"""Prints where Hugging Face's tokenizers differ from the original's, as the tables of docs/tokenizer.md.

    python tests/goldens/show_huggingface_tokens.py          # needs transformers 4.57.6, sentencepiece, protobuf

For each vocabulary: how many of the awkward strings get other ids from the slow and from the fast tokenizer than from
the original (`tokenizer/golden.json`), and the pieces of some strings that show why.
"""

import json
import tempfile
from pathlib import Path

import transformers

HERE = Path(__file__).parent / "tokenizer"
TELLING = {
    "spiece.model": [
        "``back ticks''", "x10,y", "10, 20, 30", "(10, 20)", "[MASK]", "(the)", '"quoted" text', "a-b", "...", "a ",
        " ", "½,", "vertical\x0btab",
    ],
    "vocab.txt": ["a [MASK] b", "private\ue000use", "a" * 101],
}  # fmt: skip


def main():
    golden = json.loads((HERE / "golden.json").read_text())
    strings = golden["strings"]
    print("transformers", transformers.__version__)
    for file, telling in TELLING.items():
        path = str(HERE / file)
        if file == "spiece.model":
            slow = transformers.AlbertTokenizer(path)
            with tempfile.TemporaryDirectory() as folder:
                slow.save_pretrained(folder)
                fast = transformers.AlbertTokenizerFast.from_pretrained(folder)
        else:
            slow, fast = transformers.BertTokenizer(path), transformers.BertTokenizerFast(path)
        original = golden[f"{file} uncased"]
        found = [[(pieces, ids) for pieces, ids in original]]
        for tokenizer in (slow, fast):
            rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in strings]
            found.append([(tokenizer.convert_ids_to_tokens(ids), ids) for ids in rows])
        for name, rows in zip(("slow", "fast"), found[1:], strict=True):
            count = sum(ids != right for (_, ids), (_, right) in zip(rows, original, strict=True))
            print(f"\n{file}, {name}: {count} of {len(strings)} strings have other ids")
        print("\n| text | original | slow | fast |\n|---|---|---|---|")
        for text in telling:
            cells = [shown(rows[strings.index(text)][0]) for rows in found]
            print(
                f"| `{ascii(text) if len(text) < 40 else ascii(text[:1]) + ' * ' + str(len(text))}` |",
                " | ".join(cells),
                "|",
            )


def shown(pieces):
    text = " ".join(pieces) if len(pieces) < 30 else f"{pieces[0]} ... ({len(pieces)} pieces)"
    return f"``{' ' + text + ' ' if '`' in text else text}``" if text else "nothing"


if __name__ == "__main__":
    main()
