"""The vocabulary as transformers reads it: spiece.model for its slow tokenizer, tokenizer.json for its fast one."""

import base64
import json
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer

# transformers 5 would leave the segments of a pair out.
_INPUTS = ["input_ids", "token_type_ids", "attention_mask"]
_SPECIAL = {
    "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "sep_token": "[SEP]", "pad_token": "<pad>",
    "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip


def wordpiece_lines(tokenizer: WordPieceTokenizer) -> bytes:
    """The text of a vocab.txt."""
    return "".join(f"{piece.strip()}\n" for piece in tokenizer.pieces(range(tokenizer.vocab_size))).encode()


def write_tokenizer(directory: Path, tokenizer: AnyTokenizer, max_length: int) -> None:
    """Writes spiece.model, tokenizer.json, tokenizer_config.json and special_tokens_map.json into `directory`; of a
    WordPiece vocabulary, vocab.txt and tokenizer_config.json."""
    if isinstance(tokenizer, WordPieceTokenizer):
        (directory / "vocab.txt").write_bytes(wordpiece_lines(tokenizer))
        lower = tokenizer.normalization.lower
        config = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, "model_max_length": max_length}
        config["model_input_names"] = _INPUTS
        _write(directory / "tokenizer_config.json", config)
        return
    (directory / "spiece.model").write_bytes(tokenizer.model)
    choices = tokenizer.normalization
    config = {
        "tokenizer_class": "AlbertTokenizer",
        "do_lower_case": choices.lower,
        "keep_accents": choices.keep_accents,
        "remove_space": True,
        "model_max_length": max_length,
        "model_input_names": _INPUTS,
        **_SPECIAL,
    }
    _write(directory / "tokenizer_config.json", config)
    _write(directory / "special_tokens_map.json", _SPECIAL)
    _write(directory / "tokenizer.json", _fast(tokenizer), indent=None)


def _write(path: Path, value: dict[str, Any], indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def _fast(tokenizer: Tokenizer) -> dict[str, Any]:
    """The `tokenizers` library's own description of the same rules, as far as it has them: it drops nonspacing marks
    rather than all combining ones, and does not cut a comma off a number. The quotes that transformers turns into one
    another are left as they are, as the original leaves them. Symbols such as "(" stay plain pieces: as added tokens
    they would begin a word anew in the middle of "(the)"."""
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)  # type: ignore[attr-defined]
    normalizers: list[dict[str, Any]] = [{"type": "NFKD"}]
    if not tokenizer.normalization.keep_accents:
        normalizers.append({"type": "StripAccents"})
    if tokenizer.normalization.lower:
        normalizers.append({"type": "Lowercase"})
    if model.normalizer_spec.precompiled_charsmap:
        charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    ends = {name: [{"SpecialToken": {"id": name, "type_id": number}} for number in (0, 1)] for name in _NAMED}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": model.pieces[number].piece, **plain} for number in range(5)],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [ends["[CLS]"][0], first, ends["[SEP]"][0]],
            "pair": [ends["[CLS]"][0], first, ends["[SEP]"][0], second, ends["[SEP]"][1]],
            "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in _NAMED.items()},
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": tokenizer.unk_id,
            "vocab": [[piece.piece, piece.score] for piece in model.pieces],
            "byte_fallback": False,
        },
    }


_NAMED = {"[CLS]": Tokenizer.cls_id, "[SEP]": Tokenizer.sep_id}
