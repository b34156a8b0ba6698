"""The verb heads: which number of attention heads a model was trained with. Nothing in its weights tells, but its
predictions do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import optax
import tyro

from albert_jax.commands.environment import set_up_jax
from albert_jax.data.examples.draws import MASKS, Draws
from albert_jax.data.examples.masking import MaskConfig, Masker
from albert_jax.data.text.lines import read_lines
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError, refuse
from albert_jax.interop.load import open_source
from albert_jax.interop.restored import RestoredAlbert, build
from albert_jax.model.config import AlbertConfig
from albert_jax.telemetry.tables import format_table

_BATCH = 8  # examples that are scored at once
_HEAD_SIZES = range(32, 257)  # K of the candidates when none are given; the released models have 64, 128 and 256


@dataclass(frozen=True)
class Options:
    """Which number of attention heads a model was trained with, by its MLM accuracy on a text."""

    # what convert takes; with an MLM head and a vocabulary
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # plain text, of the kind and language that the model was trained on
    text: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEXT")]
    candidates: tuple[int, ...] = ()  # head counts; none takes the usual widths


def run(options: Options) -> int:
    set_up_jax()
    source = open_source(options.source)
    if source.tokenizer is None:
        raise AlbertError(f"{options.source} has no vocabulary to read the text with; put the model's own beside it")
    scores = check_heads(
        source.params, source.config, source.tokenizer, options.text, options.candidates, name=options.source
    )
    print(head_table(scores, source.config))
    return 0


@dataclass(frozen=True)
class HeadScore:
    """How well the model fills in masked words of the text."""

    heads: int  # attention heads (N) that it was computed with
    accuracy: float  # share of the masked pieces whose most probable piece is the right one
    loss: float  # mean cross entropy of the masked pieces, nats
    pieces: int  # masked pieces, the same ones for every candidate


def check_heads(
    params: Mapping[str, np.ndarray],  # path -> array, with the MLM head
    config: AlbertConfig,  # the model's; all of it is kept but its heads
    tokenizer: AnyTokenizer,  # the model's
    text_path: str | Path,  # plain text, of the kind and language that the model was trained on
    candidates: Sequence[int] = (),  # none gives the divisors of D with heads 32 to 256 wide, and the configuration's
    *,
    max_length: int = 128,  # pieces of an example, [CLS] and [SEP] counted (S)
    examples: int = 64,  # at most so many are taken from the beginning of the text
    seed: int = 0,  # of the masks
    name: str = "the model",  # in messages
) -> list[HeadScore]:
    """Scores of the same weights under other head counts, the best first. 15 % of the pieces are masked, by whole
    words, all shown as [MASK]; the same ones for every candidate.

    Raises AlbertError for a candidate that does not divide D, a text that is too short, and weights without MLM head.
    """
    D, S = config.hidden_size, min(max_length, config.max_positions)
    # With the configured count, also where it is unusual: it is the one to compare with.
    usual = {heads for heads in range(1, D + 1) if D % heads == 0 and D // heads in _HEAD_SIZES}
    counts = sorted(set(candidates) or usual | {config.heads})
    odd = (heads for heads in counts if heads < 1 or D % heads)
    refuse(f"{heads} heads do not divide the hidden width {D}; give divisors of it" for heads in odd)
    if (V := tokenizer.vocab_size) != config.vocab_size:
        raise AlbertError(f"the vocabulary has {V} pieces, the model {config.vocab_size}; give the model's own")
    # Word by word and always [MASK]: n-grams and random pieces would add errors that no head count can avoid.
    masker = Masker(MaskConfig(max_ngram=1, mask_share=1.0, random_share=0.0), tokenizer, S)
    texts = enumerate(_examples(str(text_path), tokenizer, S, examples))
    rows = [masker.apply(row, S, Draws(seed, MASKS, index)) for index, row in texts]
    if not rows:
        raise AlbertError(f"{text_path}: less than {S - 2} pieces of text; give a longer one, or a smaller max_length")
    columns = {field: np.stack([getattr(row, field) for row in rows]) for field in _FIELDS}
    models = (build(replace(config, heads=heads), "mlm", dict(params), name) for heads in counts)
    scores = [HeadScore(heads, *_score(model, columns)) for heads, model in zip(counts, models, strict=True)]
    return sorted(scores, key=lambda score: (-score.accuracy, score.loss))


_FIELDS = ("input_ids", "positions", "labels", "weights")


def _score(model: RestoredAlbert, columns: Mapping[str, np.ndarray]) -> tuple[float, float, int]:
    """Accuracy, loss and number of masked pieces over the rows of `columns`."""
    hits = loss = pieces = 0.0
    for begin in range(0, len(columns["weights"]), _BATCH):
        ids, positions, labels, weights = (columns[field][begin : begin + _BATCH] for field in _FIELDS)
        # The last batch is filled up with copies that do not count: one shape, one compiled program.
        copies = [0] * (_BATCH - len(ids))
        ids, positions, labels = (np.concatenate([part, part[copies]]) for part in (ids, positions, labels))
        weights = np.concatenate([weights, 0 * weights[copies]])
        logits = model(ids, positions=positions).mlm_logits
        losses = np.asarray(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
        hits += float(((np.asarray(logits).argmax(-1) == labels) * weights).sum())
        loss += float((losses * weights).sum())
        pieces += float(weights.sum())
    return hits / pieces, loss / pieces, int(pieces)


def head_table(scores: Sequence[HeadScore], config: AlbertConfig) -> str:
    """The scores as a table, the configuration's own count marked."""
    rows = [(s.heads, s.accuracy, s.loss, "configured" if s.heads == config.heads else "") for s in scores]
    return format_table(("heads", "MLM accuracy", "MLM loss", ""), rows, f"{scores[0].pieces:,} masked pieces")


def _examples(path: str, tokenizer: AnyTokenizer, S: int, count: int) -> Iterator[np.ndarray]:
    """[CLS] S - 2 pieces [SEP], int32 [S], cut from the text as it runs on; the rest at its end is left."""
    kept = np.zeros(0, np.int32)
    for _, lines in read_lines(path):
        kept = np.concatenate([kept, tokenizer.encode_batch(lines)[0].astype(np.int32)])
        while len(kept) >= S - 2 and count:
            yield np.concatenate([[tokenizer.cls_id], kept[: S - 2], [tokenizer.sep_id]]).astype(np.int32)
            kept, count = kept[S - 2 :], count - 1
        if not count:
            return
