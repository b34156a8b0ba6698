"""Makes tokenizer_json/: a tokenizer.json each as transformers writes it, and the ids of awkward strings by the library
`tokenizers`.

    pip install transformers==4.57.6 tokenizers==0.22.2 sentencepiece protobuf        # and again with 5.24.0, 0.23.3
    python tests/goldens/make_json_goldens.py

Run once with each of the two versions: each writes the files that are named after its own, the second rules.json, too:
small files by hand, each with one rule that the others do not have, texts, and their ids. The vocabularies are those of
make_tokenizer_goldens.py. Ids are of a copy of the file whose special pieces cannot be spelled in a text, since here
they never come from one. `albert_jax` is not imported.
"""

import gzip
import json
import tempfile
from pathlib import Path

import tokenizers
import transformers
from awkward_strings import strings

HERE = Path(__file__).parent
VOCABULARIES, OUT = HERE / "tokenizer", HERE / "tokenizer_json"
VERSION = transformers.__version__.split(".")[0]
SPECIAL = ("<pad>", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
FAST = "Fast" if VERSION == "4" else ""
CASED = {"do_lower_case": False, "keep_accents": True}
# Name -> (vocabulary, what it is called in a model's directory, class, options). The tables of SentencePiece's own
# normalisation are most of a file, so that each is stored by one version.
CASES = {
    "4": {
        "unigram_uncased_4": ("spiece.model", "spiece.model", f"AlbertTokenizer{FAST}", {}),
        "unigram_plain_4": ("lower.model", "spiece.model", f"AlbertTokenizer{FAST}", {}),
    },
    "5": {
        "unigram_cased_5": ("spiece.model", "spiece.model", f"AlbertTokenizer{FAST}", CASED),
        "unigram_plain_5": ("lower.model", "spiece.model", f"AlbertTokenizer{FAST}", {}),
        "wordpiece_uncased_5": ("vocab.txt", "vocab.txt", f"BertTokenizer{FAST}", {}),
        "wordpiece_cased_5": ("vocab.txt", "vocab.txt", f"BertTokenizer{FAST}", {"do_lower_case": False}),
    },
}


def main():
    OUT.mkdir(exist_ok=True)
    golden = json.loads((OUT / "golden.json").read_text()) if (OUT / "golden.json").exists() else {}
    for case, (file, name, kind, options) in CASES[VERSION].items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_bytes((VOCABULARIES / file).read_bytes())
            made = getattr(transformers, kind).from_pretrained(folder, **options)
            made.save_pretrained(Path(folder) / "saved")
            content = (Path(folder) / "saved" / "tokenizer.json").read_bytes()
        # Without a time in it, so that the same content is the same file.
        (OUT / f"{case}.json.gz").write_bytes(gzip.compress(content, mtime=0))
        library = unspelled(content)
        golden[case] = [library.encode(text, add_special_tokens=False).ids for text in strings()]
    (OUT / "golden.json").write_text(json.dumps(dict(sorted(golden.items())), separators=(",", ":")) + "\n")
    if VERSION == "5":
        (OUT / "rules.json").write_text(json.dumps(list(rules())) + "\n")
    print(transformers.__version__, tokenizers.__version__, len(strings()), "strings")


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
SCORES = {
    "<pad>": 0, "<unk>": 0, "[CLS]": 0, "[SEP]": 0, "[MASK]": 0, "▁": -2, "▁a": -1.5, "a": -2, "b": -2, "ab": -2.5,
    "c": -3, "▁ab": -6, ",": -3, "ab,": -8, "σ": -4, "ς": -4, "i": -4, "ß": -4, "\u0307": -4,
    "क": -4, "中": -4, "\u093f": -4,
}  # fmt: skip


BERT = {
    "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": False,
    "lowercase": True,
}  # fmt: skip


def by_hand():
    """(what, changes of a small file, texts)"""

    def added(*tokens):
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False}
        return [
            {"id": len(SCORES) + i, "content": name, "normalized": late, **flags}
            for i, (name, late) in enumerate(tokens)
        ]

    def split(pattern, behavior, *before):
        rule = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, rule, METASPACE]}}

    def steps(*parts):
        return {"normalizer": {"type": "Sequence", "normalizers": list(parts)}}

    def replace(content, **pattern):
        return {"type": "Replace", "pattern": pattern, "content": content}

    texts = ["ab ab", "abc,", "xx yab", "", " ", "a ▁b", "ab  ab ", "acbcc", "ab, b,", "AB\x1cb\x85a", "á b\u2003a"]
    yield "plain", {}, texts
    tokens = added(("AB", False), ("cab", True), ("<e>", False))
    yield (
        "added",
        {"added_tokens": tokens, "normalizer": {"type": "Lowercase"}},
        ["aAB b", "CAB ab", "a<e>b cab", "ABab"],
    )
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext"):
        yield behavior, split({"String": "c"}, behavior), ["acbcc", "c", "abc c,"]
    yield (
        "lookbehind",
        split({"Regex": "(?<=[^ ])b(?=,)"}, "MergedWithNext", {"type": "WhitespaceSplit"}),
        ["ab, b,", "abab,a"],
    )
    for name, changes in {
        "never": {"prepend_scheme": "never"},
        "whole": {"split": False},
        "never whole": {"prepend_scheme": "never", "split": False},
    }.items():
        yield name, {"pre_tokenizer": METASPACE | changes}, texts
    yield "old", {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}}, texts
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    yield "strip", steps(strip, replace(" ", Regex=" {2,}"), replace("ab", String="``")), [*texts, "  a  b ", "``c"]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, {"normalizer": {"type": form}}, [*texts, "a\u0301 b", "ﬁa½"]
    greek = {"Lowercase": {"type": "Lowercase"}, "BertNormalizer": BERT, "marks": {"type": "StripAccents"}}
    for what, rule in greek.items():
        yield what, {"normalizer": rule}, ["ΑΣ ας ΑΣ.", "İI ẞ", "á कि\u0901 中a\u20dd", "a\x00b\ufffd\tc\u200b\ue000a"]
    yield "none", {"pre_tokenizer": None}, texts


def rules():
    """What the library makes of those texts."""
    model = {"type": "Unigram", "unk_id": 1, "vocab": list(map(list, SCORES.items())), "byte_fallback": False}
    base = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": METASPACE, "post_processor": None, "decoder": None, "model": model,
    }  # fmt: skip
    for what, changes, texts in by_hand():
        library = tokenizers.Tokenizer.from_str(json.dumps(base | changes))
        ids = [library.encode(text, add_special_tokens=False).ids for text in texts]
        yield {"what": what, "file": base | changes, "texts": texts, "ids": ids}


def unspelled(content):
    """The library's tokenizer of a file, with a space after the name of each special piece: no word has one."""
    fields = json.loads(content)
    for token in fields["added_tokens"]:
        token["content"] = hidden(token["content"])
    vocab = fields["model"]["vocab"]
    if isinstance(vocab, list):
        fields["model"]["vocab"] = [[hidden(piece), score] for piece, score in vocab]
    else:
        fields["model"]["vocab"] = {hidden(piece): number for piece, number in vocab.items()}
    fields["post_processor"] = None
    made = tokenizers.Tokenizer.from_str(json.dumps(fields))
    made.encode_special_tokens = True
    return made


def hidden(piece):
    return f"{piece} " if piece in SPECIAL else piece


if __name__ == "__main__":
    main()
