"""The tokenizer of a `tokenizer.json`, which is all that Hugging Face's transformers 5 writes: Unigram or WordPiece.

    JsonTokenizer.load("tokenizer.json").encode("In 1,234 words.")

Ids are those of the `tokenizers` library, on which such a model was trained, and not the original's (docs/tokenizer.md
tells where they differ), but for one rule of this package: [CLS], [SEP], [MASK] and padding in a text are text.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from albert_jax.data.text.json_rules import SPACE, Normalizer, follow, normalizers, splitters, words
from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.vocabulary import BaseTokenizer, WordRule, word_starts
from albert_jax.errors import AlbertError, refuse
from albert_jax.files import reading

KIND = "tokenizer.json"
_ADVICE = "not a tokenizer.json of the tokenizers library; copy it again"
# What the five special pieces may be called, where no tokenizer_config.json names them.
SPECIALS = {
    "pad_token": ("<pad>", "[PAD]"), "unk_token": ("<unk>", "[UNK]"), "cls_token": ("[CLS]",), "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]",),
}  # fmt: skip
_UNKNOWN_PENALTY = 10.0  # below the least score of a piece
_CACHED_WORDS = 2**17
_Piece = tuple[int, int, int]  # id, first and last end in its word


class JsonTokenizer(BaseTokenizer):
    """Pieces and ids of a tokenizer.json of V pieces, those that were added to its model included."""

    FILE = KIND
    word_rule: WordRule = "multilingual"

    def __init__(self, content: bytes, names: Mapping[str, str] | None = None, source: str = KIND):
        """`content` of the file; `names` of the special pieces, as tokenizer_config.json has them, such as
        {"cls_token": "[CLS]"}; `source` names the file in errors.

        Raises AlbertError when it is no such file, and for what is in it and not known here.
        """
        self.content, self._names = content, dict(names or {})
        with reading(source, _ADVICE):
            fields = json.loads(content)
            self._read(fields, source)
        self.vocab_size = len(self._all_pieces)
        special = {}
        for field, usual in SPECIALS.items():
            known = [name for name in (self._names.get(field), *usual) if name in self._ids]
            if not known:
                raise AlbertError(f"{source}: it has no {field}, such as {usual[0]}; give an ALBERT's tokenizer.json")
            special[field] = self._ids[known[0]]
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = special.values()
        if self._model_unknown != self.unk_id:
            unknown = self._all_pieces[self._model_unknown]
            raise AlbertError(f"{source}: its model's unknown piece is {unknown!r}, not its unk_token; correct the one")
        cls, sep = self._all_pieces[self.cls_id], self._all_pieces[self.sep_id]
        with reading(source, _ADVICE):
            refuse(f"{source}: {flaw}" for flaw in _template_flaws(fields.get("post_processor"), cls, sep))
        # A special piece must never come from a text, whatever the text says. An unknown one may.
        hidden = set(special.values()) - {self.unk_id}
        self._found_in_text = {piece: i for piece, i in self._model_ids.items() if i not in hidden}
        self._longest = max(map(len, self._found_in_text))
        added = [(name, late) for name, late in self._added_pieces if self._ids[name] not in special.values()]
        self._added = _matcher(name for name, late in added if not late)
        late = [name for name, late in added if late]
        self._added_late = _matcher(self._normalized(name) for name in late)
        self._late_ids = {self._normalized(name): self._ids[name] for name in late}
        # Few words make up most of a text, and cutting one is the slow part.
        self._words: dict[str, tuple[_Piece, ...]] = {}

    def _read(self, fields: dict[str, Any], source: str) -> None:
        model = fields["model"]
        refuse(f"{source}: {flaw}" for flaw in _flaws(fields, model))
        self._steps: tuple[Normalizer, ...] = normalizers(fields.get("normalizer"), source)
        self._splits = splitters(fields.get("pre_tokenizer"), source)
        self._rules = [fields.get(name) for name in ("normalizer", "pre_tokenizer", "added_tokens", "model")]
        if model["type"] == "Unigram":
            self._scores = [float(score) for _, score in model["vocab"]]
            pieces = [piece for piece, _ in model["vocab"]]
            self._model_unknown = int(model["unk_id"])
        else:
            pieces = sorted(model["vocab"], key=model["vocab"].get)
            refuse(_gaps(source, [model["vocab"][piece] for piece in pieces]))
            self._model_unknown = model["vocab"][model["unk_token"]]
            self._prefix, self._most = model["continuing_subword_prefix"], model["max_input_chars_per_word"]
        self._cut: Callable[[str], list[_Piece]] = self._unigram if model["type"] == "Unigram" else self._word_pieces
        self.is_wordpiece = model["type"] == "WordPiece"
        self._model_ids = {piece: number for number, piece in enumerate(pieces)}
        refuse(f"{source}: the piece {piece!r} is there twice; {_ADVICE}" for piece in _twice(pieces))
        added = sorted((entry["id"], entry["content"]) for entry in fields.get("added_tokens") or ())
        later = [entry for entry in added if entry[0] >= len(pieces)]
        refuse(_gaps(source, [*range(len(pieces)), *(number for number, _ in later)]))
        self._all_pieces = [*pieces, *(name for _, name in later)]
        self._ids = {piece: number for number, piece in enumerate(self._all_pieces)}
        refuse(
            f"{source}: the added token {name!r} has id {number}, its piece another; {_ADVICE}"
            for number, name in added
            if self._ids.get(name) != number
        )
        self._added_pieces = [(entry["content"], entry["normalized"]) for entry in fields.get("added_tokens") or ()]
        kinds = _types(fields.get("normalizer"))
        bert = next(iter(_parts(fields.get("normalizer"), "BertNormalizer")), None)
        lower = "Lowercase" in kinds or bool(bert and bert["lowercase"])
        keeps = "StripAccents" not in kinds if bert is None else not (bert["strip_accents"] or bert["lowercase"])
        self.normalization = Normalization(lower, keeps)

    # ---- made and kept

    @classmethod
    def parse(cls, content: bytes, choices: dict[str, Any], source: str) -> "JsonTokenizer":
        """From the bytes of a tokenizer.json; see `BaseTokenizer.parse`."""
        return cls(content, choices.get("special"), source)

    def _content(self) -> bytes:
        return self.content

    def _choices(self) -> dict[str, Any]:
        return {"kind": KIND, "vocab_size": self.vocab_size, "special": self.special}

    @property
    def special(self) -> dict[str, str]:
        """The special pieces by the names of their fields in tokenizer_config.json."""
        ids = (self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id)
        return {field: self._all_pieces[number] for field, number in zip(SPECIALS, ids, strict=True)}

    def __reduce__(self) -> tuple[type["JsonTokenizer"], tuple[bytes, dict[str, str]]]:
        return type(self), (self.content, self._names)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of rules, pieces and scores; how the file is laid out does not count."""
        decisive = json.dumps([KIND, self._rules, self.special], sort_keys=True)
        return hashlib.blake2b(decisive.encode(), digest_size=16).hexdigest()

    # ---- text to ids

    def normalize(self, text: str) -> str:
        """`text` as the pieces see it; of a WordPiece model its words, a space between them."""
        parts = [self._normalized(part) for part, _, _ in self._sections(text)]
        if self.is_wordpiece:
            parts = [word.text for part in parts for word in words(self._splits, part)]
        return (" " if self.is_wordpiece else "").join(parts)

    def encode(self, text: str) -> list[int]:
        """Piece ids of `text`, without [CLS] and [SEP]; never a special one, whatever the text says."""
        ids: list[int] = []
        for part, _, added in self._sections(text):
            if added is not None:
                ids.append(added)
                continue
            for normal, _, late in _cut_out(self._added_late, self._normalized(part), self._late_ids):
                if late is not None:
                    ids.append(late)
                    continue
                for word in words(self._splits, normal):
                    ids += [number for number, _, _ in self._pieces_of(word.text)]
        return ids

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text`; `encode(text)` has their ids."""
        return self.pieces(self.encode(text))

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts one after the other, `dtype` [N], and how many each text has, int32 [len(texts)]."""
        rows = [self.encode(text) for text in texts]
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        return np.fromiter(chain.from_iterable(rows), self.dtype, int(lengths.sum())), lengths

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode(text)` and, for each id, the characters [start, end) of the caller's own `text` it stands for.

        White space before a word belongs to no piece. A piece that stands for nothing visible (a lone "▁") has an empty
        span.
        """
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for part, begin, added in self._sections(text):
            if added is not None:
                ids.append(added)
                offsets.append((begin, begin + len(part)))
                continue
            whole, spans = follow(self._steps, part)
            for normal, place, late in _cut_out(self._added_late, whole, self._late_ids):
                if late is not None:
                    ids.append(late)
                    offsets.append((begin + spans[place][0], begin + spans[place + len(normal) - 1][1]))
                    continue
                for word in words(self._splits, normal):
                    for number, start, end in self._pieces_of(word.text):
                        ids.append(number)
                        while start < end and word.text[start] == SPACE:  # a space, or nothing, in the text
                            start += 1
                        first, last = (place + word.start + max(edge - word.added, 0) for edge in (start, end))
                        if first < last:
                            span = (spans[first][0], spans[last - 1][1])
                        else:
                            position = spans[first][0] if first < len(spans) else len(part)
                            span = (position, position)
                        offsets.append((begin + span[0], begin + span[1]))
        return ids, offsets

    def _sections(self, text: str) -> Iterator[tuple[str, int, int | None]]:
        return _cut_out(self._added, text, self._ids)

    def _normalized(self, text: str) -> str:
        for step in self._steps:
            text = step.apply(text)
        return text

    def _pieces_of(self, word: str) -> tuple[_Piece, ...]:
        if (known := self._words.get(word)) is None:
            # Cleared, not pruned: what is frequent is back within a few sentences.
            if len(self._words) >= _CACHED_WORDS:
                self._words.clear()
            known = self._words[word] = tuple(self._cut(word))
        return known

    def _unigram(self, word: str) -> list[_Piece]:
        """The pieces of the greatest sum of scores (Viterbi), unknown ones beside each other as one."""
        # By hand, not by SentencePiece: its sums are of 32-bit numbers, and ties then fall otherwise than they do in
        # the library, whose ids these must be.
        size, worst = len(word), min(self._scores) - _UNKNOWN_PENALTY
        best = [0.0] + [-math.inf] * size  # sum of scores up to each position
        came: list[tuple[int, int]] = [(0, 0)] * (size + 1)  # by which piece, and from where
        for start in range(size):
            single = False
            for end in range(start + 1, min(size, start + self._longest) + 1):
                number = self._found_in_text.get(word[start:end])
                if number is None:
                    continue
                single |= end == start + 1
                if (score := best[start] + self._scores[number]) > best[end]:
                    best[end], came[end] = score, (number, start)
            if not single and best[start] + worst > best[start + 1]:
                best[start + 1], came[start + 1] = best[start] + worst, (self.unk_id, start)
        found: list[_Piece] = []
        end = size
        while end:
            number, start = came[end]
            if found and number == self.unk_id == found[-1][0]:
                found[-1] = (number, start, found[-1][2])
            else:
                found.append((number, start, end))
            end = start
        return found[::-1]

    def _word_pieces(self, word: str) -> list[_Piece]:
        """The longest piece that fits, from the left; one unknown piece for a word that cannot be cut so."""
        found: list[_Piece] = []
        start, size = 0, len(word)
        while start < size <= self._most:
            prefix = self._prefix if start else ""
            for end in range(min(size, start + self._longest), start, -1):
                if (number := self._found_in_text.get(prefix + word[start:end])) is not None:
                    break
            else:
                break
            found.append((number, start, end))
            start = end
        return found if start == size else [(self.unk_id, 0, size)]

    # ---- ids to text

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids`: special pieces by their names."""
        pieces = self.pieces(ids)
        if self.is_wordpiece:
            return " ".join(pieces).replace(f" {self._prefix}", "")
        special = set(self.special.values())
        shown = (f" {piece} " if piece in special else piece for piece in pieces)
        return " ".join("".join(shown).replace(SPACE, " ").split())

    @cached_property
    def word_starts(self) -> np.ndarray:
        """bool [V]: True where a piece starts a word."""
        return self._starts(self.word_rule)

    @cached_property
    def google_word_starts(self) -> np.ndarray:
        """bool [V]: `word_starts` by the rule "google"; a WordPiece vocabulary has one rule."""
        return self._starts("google")

    def _starts(self, rule: WordRule) -> np.ndarray:
        if not self.is_wordpiece:
            return word_starts(self._all_pieces, rule)
        starts = np.array([not piece.startswith(self._prefix) for piece in self._all_pieces])
        starts.setflags(write=False)
        return starts


def _matcher(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of `names`, the leftmost first, of those that begin at one place the longest; None for no names."""
    ordered = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _cut_out(
    pattern: re.Pattern[str] | None, text: str, ids: Mapping[str, int]
) -> Iterator[tuple[str, int, int | None]]:
    """(part, where it begins, id) of `text`: what `pattern` finds with its id, what is between with None."""
    end = 0
    for match in pattern.finditer(text) if pattern else ():
        if match.start() > end:
            yield text[end : match.start()], end, None
        yield match[0], match.start(), ids[match[0]]
        end = match.end()
    if end < len(text):
        yield text[end:], end, None


def _parts(spec: Any, kind: str) -> Iterator[dict[str, Any]]:
    """The parts of a rule, which may be a sequence, that are of a kind; of any for ""."""
    for part in (spec or {}).get("normalizers", [spec] if spec else []):
        if part["type"] == "Sequence":
            yield from _parts(part, kind)
        elif kind in ("", part["type"]):
            yield part


def _types(spec: Any) -> set[str]:
    return {part["type"] for part in _parts(spec, "")}


def _twice(pieces: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for piece in pieces:
        if piece in seen:
            yield piece
        seen.add(piece)


def _gaps(source: str, numbers: Sequence[int]) -> Iterator[str]:
    for wanted, number in enumerate(numbers):
        if number != wanted:
            yield f"{source}: no piece has the id {wanted}, the next is {number}; {_ADVICE}"


def _flaws(fields: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    kind = model.get("type")
    if kind not in ("Unigram", "WordPiece"):
        yield f"a model {kind!r} is not an ALBERT's; a Unigram or a WordPiece is read"
    if kind == "Unigram" and (model.get("byte_fallback") or model.get("unk_id") is None):
        what = "with byte_fallback" if model.get("byte_fallback") else "without an unk_id"
        yield f"a Unigram {what} is not known here; give the model's spiece.model instead"
    if not model["vocab"]:
        yield "its vocabulary is empty; copy it again"
    for token in fields.get("added_tokens") or ():
        flags = [flag for flag in ("single_word", "lstrip", "rstrip") if token.get(flag)]
        # A special piece is not looked for in a text, so it does not matter what would be taken with it.
        if flags and not token["special"]:
            yield f"the added token {token['content']!r} with {flags[0]} is not known here; take that off"


def _template_flaws(spec: dict[str, Any] | None, cls: str, sep: str) -> Iterator[str]:
    """What of a post-processor is not "[CLS] first [SEP] second [SEP]" with segments 0 and 1, as rows are made here."""
    if spec is None or spec["type"] == "BertProcessing":
        return
    if spec["type"] != "TemplateProcessing":
        yield f"the post_processor {spec['type']!r} is not known here; an ALBERT has TemplateProcessing"
    single = f"{cls}:0 $A:0 {sep}:0"
    for name, template in {"single": single, "pair": f"{single} $B:1 {sep}:1"}.items():
        parts = [(kind, part["id"], part["type_id"]) for entry in spec[name] for kind, part in entry.items()]
        shown = " ".join(f"{'$' * (kind == 'Sequence')}{which}:{segment}" for kind, which, segment in parts)
        if shown != template:
            yield f"the post_processor makes {shown!r} of a {name}; {template!r}, as an ALBERT's, is known here"
