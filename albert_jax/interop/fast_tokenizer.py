"""A SentencePiece vocabulary of ours as the `tokenizer.json` that Hugging Face's `tokenizers` library reads.

The library cannot cut a piece in two after it was found, as the original cuts "10," once more ("▁10" and ","), nor put
a "▁" before what it cuts off. Such pieces are therefore kept from being found, and the numbers of up to four digits
that the original would cut so are marked by rules before. What differs then is rare: longer numbers before a comma,
pieces that reach over it, a "▁" in the text, equal sums of scores. `convert` tells it (`same_pieces.py`).
"""

import base64
import json
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from albert_jax.data.text.sentencepiece import Tokenizer

Json = dict[str, Any]
_DIGITS = 4  # of the longest number whose cuts are written down
_LETTERS = "A-Za-zͰ-Ͽἀ-῿"  # before and after a sigma that is not the last of its word
_METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def rules(tokenizer: Tokenizer) -> Json:
    """The content of the file. Special pieces in a text are found by name, as the library does it."""
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)  # type: ignore[attr-defined]
    # No word has a space in it, so such a name is never found.
    vocab = [[_unfound(piece.piece), piece.score] for piece in model.pieces]
    # Symbols such as "(" stay plain pieces: as added tokens they would begin a word anew in the middle of "(the)".
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    marked = _marked_numbers(tokenizer)
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": number, "content": model.pieces[number].piece, **plain} for number in range(5)],
        "normalizer": _sequence("normalizers", [*_normalizers(tokenizer, model), *_lone_marks(marked)]),
        "pre_tokenizer": _sequence("pretokenizers", [{"type": "WhitespaceSplit"}, *_cuts(marked), _METASPACE]),
        "post_processor": _template(), "decoder": _METASPACE,
        "model": {"type": "Unigram", "unk_id": tokenizer.unk_id, "vocab": vocab, "byte_fallback": False},
    }  # fmt: skip


def _sequence(name: str, parts: Iterable[Json]) -> Json:
    return {"type": "Sequence", name: list(parts)}


def _unfound(piece: str) -> str:
    """The name of a piece, with a space if the original would cut it once more."""
    return f"{piece} " if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit() else piece


def _replace(pattern: str, content: str) -> Json:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _normalizers(tokenizer: Tokenizer, model: Any) -> Iterator[Json]:
    # As `normalize.py`, in its order; then what SentencePiece itself does. The quotes that transformers turns into one
    # another are left as they are, as the original leaves them.
    yield _replace("[\t-\r\x1c-\x1f\x85]", " ")  # what Python takes for white space and the library's rules drop
    yield {"type": "NFKD"}
    if not tokenizer.normalization.keep_accents:
        marks = (point for point in range(sys.maxunicode + 1) if unicodedata.combining(chr(point)))
        yield _replace(f"[{_ranges(marks)}]+", "")  # StripAccents also drops vowel signs, which are no accents
    if tokenizer.normalization.lower:
        yield _replace(f"(?<=[{_LETTERS}])Σ(?![{_LETTERS}])", "ς")  # as Python has it; Lowercase makes every one a σ
        yield {"type": "Lowercase"}
    if charsmap := model.normalizer_spec.precompiled_charsmap:
        yield {"type": "NFC"}  # Precompiled puts no Hangul together again, SentencePiece does
        yield {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}


def _ranges(points: Iterable[int]) -> str:
    found: list[list[int]] = []
    for point in points:
        if found and found[-1][1] == point - 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return "".join(chr(first) if first == last else f"{chr(first)}-{chr(last)}" for first, last in found)


# ---- numbers before a comma

_Marks = dict[tuple[bool, int], list[str]]


def _marked_numbers(tokenizer: Tokenizer) -> _Marks:
    """(whether it begins a word, where) -> the numbers that have a "▁" there when a comma follows: {(True, 3):
    ["2019"]} since "2019," is "▁201 ▁9 ,". At 0 of a word's first number, a "▁" of its own."""
    if not any(_unfound(piece) != piece for piece in tokenizer.pieces(range(tokenizer.vocab_size))):
        return {}
    found: _Marks = defaultdict(list)
    for size in range(1, _DIGITS + 1):
        for number in (f"{value:0{size}}" for value in range(10**size)):
            for first, text in ((True, f"{number},"), (False, f"({number},")):
                pieces = tokenizer.tokenize(text)
                pieces = pieces if first else pieces[pieces.index("(") + 1 :]
                for place in _marks(pieces, first):
                    found[first, place].append(number)
    return found


def _marks(pieces: list[str], first: bool) -> Iterator[int]:
    place = 0
    for index, piece in enumerate(pieces):
        # The "▁" that every word has at its front is not one of these.
        if piece[0] == "▁" and (index or not first):
            yield place
        place += len(piece.replace("▁", ""))


def _lone_marks(marked: _Marks) -> Iterator[Json]:
    if numbers := marked.get((True, 0)):
        yield _replace(f"(?<![^ ])(?=(?:{_any(numbers)}),)", "▁ ")


def _cuts(marked: _Marks) -> Iterator[Json]:
    for (first, place), numbers in sorted(marked.items()):
        before = "(?<![^ ])" if first else "(?<=[^0-9])"
        if place == 0 and not first:
            yield _split(f"{before}(?:{_any(numbers)})(?=,)", "MergedWithNext")
        elif place:
            ends: dict[str, list[str]] = defaultdict(list)
            for number in numbers:
                ends[number[place:]].append(number[:place])
            each = (f"(?:{_any(starts)})(?={end},)" for end, starts in sorted(ends.items()))
            yield _split(f"{before}(?:{'|'.join(each)})", "MergedWithPrevious")


def _split(pattern: str, behavior: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def _any(numbers: Iterable[str]) -> str:
    """A regular expression for any of some numbers: those that differ in the last digit are one class of digits."""
    last: dict[str, str] = defaultdict(str)
    for number in sorted(set(numbers)):
        last[number[:-1]] += number[-1]
    # And those that share these digits, one class of the digit before.
    before: dict[tuple[str, str], str] = defaultdict(str)
    for start, digits in last.items():
        before[start[:-1], digits if start else f"!{digits}"] += start[-1:]
    return "|".join(
        f"{start}{_digits(middle)}{_digits(digits.lstrip('!'))}" for (start, digits), middle in before.items()
    )


def _digits(digits: str) -> str:
    return digits if len(digits) < 2 else f"[{digits}]"


def _template() -> Json:
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    cls, sep, sep_of_b = (
        {"SpecialToken": {"id": name, "type_id": number}} for name, number in (("[CLS]", 0), ("[SEP]", 0), ("[SEP]", 1))
    )
    named = {"[CLS]": Tokenizer.cls_id, "[SEP]": Tokenizer.sep_id}
    return {
        "type": "TemplateProcessing",
        "single": [cls, first, sep],
        "pair": [cls, first, sep, second, sep_of_b],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in named.items()},
    }


def content(tokenizer: Tokenizer) -> bytes:
    # On one line: indented, its 30,000 pieces would take four lines each.
    return (json.dumps(rules(tokenizer), ensure_ascii=False) + "\n").encode()
