"""Whether two tokenizers cut text into the same pieces: ours, and that which transformers makes of a directory."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.data.text.lines import MAX_LINE_BYTES, numbered_lines
from albert_jax.data.text.tokenizers import AnyTokenizer, load
from albert_jax.data.text.wordpiece import WordPieceTokenizer

MAX_TEXTS = 10_000  # of a user's file; more would take longer than the conversion
_SHOWN = 3  # texts
# Where tokenizers are known to part: spaces, quotes, numbers, accents, scripts, symbols.
TEXTS = (
    "The quick brown fox jumps over the lazy dog.", "It's a well-known (and often quoted) sentence, isn't it?",
    "two  spaces", " leading and trailing ", "tab\tand\xa0no-break\u3000wide", "vertical\x0btab\x1funit", "",
    " ", '"quoted" text', "``back ticks'' and 'single'", "“curly” ‘quotes’ «guillemets»", "a--b – c — d", "...",
    "wait… what?!", "10, 20, 30", "In 2019, 12,345 of 1,000,000 people", "(10, 20) and x10,y",
    "£5,000 or €6.50", "3.14, 2.72,", "1/2 ½ x²", "version 1.2.3, build 45,", "10:30, 4 p.m.",
    "Café naïve résumé Ångström", "ΟΔΥΣΣΕΥΣ ΑΣ.", "İstanbul ﬁne ﬂow", "Straße", "Привет, мир", "日本語のテキスト。",
    "今天天气很好，中文12,345字", "한국어 텍스트", "हिन्दी पाठ", "ไทยภาษา", "שָׁלוֹם", "العربية", "😀 ok", "★ → ☺",
    "http://www.example.com/a?b=c&d=e#f", "user@example.com", "C:\\dir\\file_name.txt",
    "if (a && b) { return x[0], y[1]; }", '<a href="x">y</a>', "don't DON'T o’clock", "U.S.A. Mr. Smith",
    "#tag 50% $5", "a" * 101, "=" * 20, "▁the ##the", "zero\u200bwidth soft\xadhyphen private\ue000use",
)  # fmt: skip


def of_transformers(directory: Path) -> AnyTokenizer | None:
    """The tokenizer that transformers makes of a Hugging Face directory, by the rules of its tokenizer.json, or of BERT
    where there is a vocab.txt alone; None where there is neither."""
    if (directory / JsonTokenizer.FILE).is_file():
        return load(directory / JsonTokenizer.FILE)
    if not (directory / WordPieceTokenizer.FILE).is_file():
        return None
    tokenizer = load(directory)
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    bert = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    model = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    rules = {
        "normalizer": {"type": "BertNormalizer", **bert, "lowercase": tokenizer.normalization.lower},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", **model, "vocab": {piece: number for number, piece in enumerate(pieces)}},
    }
    return JsonTokenizer(json.dumps(rules).encode(), source=str(directory / WordPieceTokenizer.FILE))


def user_texts(file: str) -> list[str]:
    """The first 10,000 lines of a file that are not empty. Raises AlbertError when it cannot be read as text."""
    texts: list[str] = []
    for _, line in numbered_lines(file, MAX_LINE_BYTES):
        if line.strip():
            texts.append(line)
        if len(texts) == MAX_TEXTS:
            break
    return texts


def differing(one: AnyTokenizer, other: AnyTokenizer, texts: Iterable[str]) -> list[str]:
    """Those of `texts` that the two give other ids."""
    return [text for text in texts if one.encode(text) != other.encode(text)]


def told(ours: AnyTokenizer, theirs: AnyTokenizer, directory: str | Path, file: str = "") -> str:
    """A sentence about the texts that transformers' tokenizer of `directory` cuts otherwise than ours, of the built-in
    ones and of those in `file`, and on a line each the first of them.

    A special piece in a text is not counted: transformers takes "[MASK]" for the mask, here it is text.
    """
    sets: list[tuple[str, Sequence[str]]] = [("built-in texts", TEXTS)]
    if file:
        sets.append((f"texts of {file}", user_texts(file)))
    found = [(what, texts, differing(ours, theirs, texts)) for what, texts in sets]
    counts = " and ".join(f"{len(bad):,} of {len(texts):,} {what}" for what, texts, bad in found)
    rows = [f"pieces by transformers and by albert_jax in {directory}: other ones in {counts}"]
    # The user's own texts first: of the others it is known that some are cut otherwise.
    for text in [text for _, _, bad in reversed(found) for text in bad][:_SHOWN]:
        first, second = (_from(tokenizer, ours, theirs, text) for tokenizer in (theirs, ours))
        rows.append(f"  {text[:60]!r}: {first} by transformers, {second} by albert_jax")
    return "\n".join(rows)


def _from(tokenizer: AnyTokenizer, one: AnyTokenizer, other: AnyTokenizer, text: str) -> str:
    """The pieces by `tokenizer` from one before the first that differs."""
    rows = one.encode(text), other.encode(text)
    same = next((i for i, (a, b) in enumerate(zip(*rows, strict=False)) if a != b), min(map(len, rows)))
    return " ".join(tokenizer.pieces(tokenizer.encode(text)[max(0, same - 1) : same + 4])) or "nothing"
