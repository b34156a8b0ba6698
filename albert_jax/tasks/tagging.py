"""Tagging of words: entities by B- and I-, or plain tags such as parts of speech. From CoNLL columns, CoNLL-U, a
dataset of TFDS, or the code mentions of a pydocs corpus."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from sklearn.metrics import classification_report, confusion_matrix

from albert_jax.data.labelled import tfds
from albert_jax.data.labelled.conll import OUTSIDE, PLAIN, Sentence, is_of_entity, read_conll, spans
from albert_jax.data.labelled.framed import Windows, encode_words, in_windows
from albert_jax.data.labelled.requests import Request, cut_words, read_request
from albert_jax.data.text.scripts import characters_that_are_words
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError, refuse
from albert_jax.fields import knob
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import AlbertForTokenClassification
from albert_jax.tasks import paragraphs
from albert_jax.tasks.base import Answers, Batch, Evaluation, Outputs, Row, Sums, cross_entropy
from albert_jax.tasks.baselines import of_tags
from albert_jax.tasks.files import FileTask, OpenFileTask, stratified_sample
from albert_jax.tasks.targets import all_the_same
from albert_jax.telemetry.baselines import Plain
from albert_jax.telemetry.scores import Score, loss, share

# Most words of a text have been met before, so their pieces are kept; both limits only bound the memory of that.
_KNOWN_WORDS = 100_000  # distinct words before all are forgotten
_LONG_WORD = 64  # characters; longer words are not kept
_NOTHING = dict.fromkeys(("precision", "recall", "f1-score"), 0.0)
_PLAIN_SCORES = (
    loss(headline=True),
    share("accuracy", against="majority class", headline=True),
    Score("f1_macro", "macro F1", ".3f", headline=True, chart="F1, mean over tags"),
)


@dataclass(frozen=True)
class Tagging(FileTask):
    """Words and their tags, from files of CoNLL columns (word ... tag) or CoNLL-U (.conllu), or from a prepared pydocs
    directory.

    Of a pydocs directory the entities are the words that an author marked as code.
    """

    # Tags in the order of the head's outputs, IOB2 or plain ones; empty takes those of the training data.
    labels: tuple[str, ...] = ()
    # Where files have the tag: a number from 1 (empty: the last column), of CoNLL-U a name such as XPOS (empty: UPOS),
    # of TFDS a feature (empty: ner, ner_tags or tags).
    tag_column: str = ""
    # The piece at which the tag of a word is read: its first that stands for characters of it ("visible"), or its first
    # of all, be it a bare "▁" ("first", as runs from before this choice do).
    tagged_piece: Literal["visible", "first"] = knob("visible", older="first")

    head = "tagging"

    def open(self, config: AlbertConfig, seed: int) -> "OpenTagging":
        """The task on its data. Raises AlbertError for missing or bad data."""
        return OpenTagging(self, config)

    def for_inference(self, config: AlbertConfig, tokenizer: AnyTokenizer) -> "OpenTagging":
        return OpenTagging(self, config, tokenizer)

    def flaws(self) -> Iterator[str]:
        """What is wrong with labels that a user gave: O and at least one tag of IOB2 are needed, or two plain ones,
        each once."""
        start, end = "task.labels ", f": {', '.join(self.labels)}; give O, and B- and I- of each type, once"
        if not self.labels:
            return
        if is_plain(self.labels):
            if len(set(self.labels)) < len(self.labels):
                yield f"task.labels has a tag twice: {', '.join(self.labels)}; give each once"
            return
        for tag in self.labels:
            if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or not tag[2:]):
                yield f"{start}has {tag!r}, which is no tag{end}"
        if OUTSIDE not in self.labels:
            yield f"{start}has no {OUTSIDE!r}{end}"
        if len(self.labels) < 2:
            yield f"{start}has no entity{end}"
        if len(set(self.labels)) < len(self.labels):
            yield f"{start}has a tag twice{end}"


class OpenTagging(OpenFileTask[Sentence], Answers):
    """See `albert_jax.tasks.base.OpenTask`; and what answers new texts: every word with its tag and probability, and
    the spans that the tags make.

    Offsets are characters [start, end) of the text, which is the user's own; of words without a text it is the words
    with a space between them. The probability of a span is the least of its words'. Plain tags make no spans, and are
    scored by word alone.
    """

    scores: Sequence[Score] = (
        loss(headline=True),
        share("accuracy", against="majority class", headline=True),
        Score("precision", format=".3f"),
        Score("recall", format=".3f"),
        Score("f1", "entity F1", ".3f", headline=True, chart="F1 over entities"),
        Score("f1_macro", "macro F1", ".3f", headline=True, chart="F1, mean over classes"),
    )
    best: str = "f1"
    examples_are = "sentences"
    outputs = ("predicted", "probability")

    def __init__(self, task: Tagging, config: AlbertConfig, tokenizer: AnyTokenizer | None = None):
        refuse(task.flaws())
        super().__init__(task, config, tokenizer)
        self._pieces: dict[str, np.ndarray] = {}
        self.labels = list(task.labels) or _found(sentence.tags for sentence in self._train_sentences)
        refuse(self._label_flaws())
        self.plain_tags = is_plain(self.labels)
        if self.plain_tags:
            self.scores, self.best = _PLAIN_SCORES, "accuracy"
        self.resolved = dataclasses.replace(task, labels=tuple(self.labels))

    def _label_flaws(self) -> Iterator[str]:
        source = " ".join(self.task.train) or self.task.data
        if self.labels == [OUTSIDE]:
            yield f"the training data has no entity: every tag of {source} is O; put the tag into the last column"
        if len(self.labels) < 2:
            yield f"nothing to tell apart: every tag of {source} is {self.labels[0]}; give task.tag_column"

    # ---- data

    @cached_property
    def _train_sentences(self) -> list[Sentence]:
        return self._read("train", self.task.examples)

    def _read(self, split: str, count: int) -> list[Sentence]:
        task = self.task
        if task.data:
            return paragraphs.mentions(task.data, split, count, task.sample_seed)
        found: list[Sentence] = []
        for path in task.paths(split):
            read = tfds.read_tagged(path, split, task.tag_column) if path.startswith("tfds:") else None
            found += read_conll(path, task.tag_column) if read is None else read
        return stratified_sample(found, [0] * len(found), [0], count, task.sample_seed) if count else found

    def read_split(self, split: str) -> list[Sentence]:
        sentences = self._train_sentences if split == "train" else self._read(split, self.task.eval_examples)
        for sentence in sentences:
            if unknown := set(sentence.tags) - set(self.labels):
                raise AlbertError(
                    f"{sentence.where}: this sentence has the tag {min(unknown)}, which is not among those of the "
                    f"training data ({', '.join(self.labels)}); correct it, or train on examples of it"
                )
        return sentences

    def encode(self, records: list[Sentence], doing: str) -> Windows:
        number = {tag: index for index, tag in enumerate(self.labels)}
        tags = [[number[tag] for tag in sentence.tags] for sentence in records]
        words = [sentence.words for sentence in records]
        return Windows(self.tokenizer, words, tags, self.task.max_length, doing, self._mark)

    @property
    def _mark(self) -> int | None:
        return self.tokenizer.bare_mark if self.task.tagged_piece == "visible" else None

    def baselines(self, split: str) -> dict[str, float]:
        """Accuracy over words of always answering the split's most frequent tag."""
        counts = Counter(tag for sentence in self.split(split).records for tag in sentence.tags)
        return {"accuracy": counts.most_common(1)[0][1] / counts.total()}

    def plain(self, split: str) -> Plain | None:
        def judged(true: list[list[str]], guess: list[list[str]]) -> dict[str, float]:
            return evaluate_tags({}, true, guess, self.plain_tags).scores

        return self.plain_of(split, lambda train, records: of_tags(train, records, judged), self.labels)

    @property
    def notes(self) -> list[str]:
        train = self.split("train")
        found: list[str] = []
        if train.examples.windowed:
            found.append(
                f"{train.examples.windowed:,} of {len(train.records):,} training sentences are longer than "
                f"{self.task.max_length} pieces and are read in windows that overlap"
            )
        found += super().notes + train.examples.unknown.notes("the training data")
        found += _longer_words(word for sentence in train.records for word in sentence.words)
        if others := sorted({sentence.scheme for sentence in train.records} - {"IOB2", PLAIN}):
            found.append(f"tags of the training data are {' and '.join(others)}, read and reported as IOB2")
        return found

    # ---- model

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        return AlbertForTokenClassification(self.config, len(self.labels), rngs=rngs)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"words": batch["tag_weights"].sum()}

    def sums(
        self, model: AlbertForTokenClassification, batch: Batch, dropout_keys: jax.Array | None
    ) -> tuple[Sums, dict[str, jax.Array]]:
        logits = model(batch["input_ids"], batch["segment_ids"], batch["mask"], dropout_keys)
        total, hits = cross_entropy(logits, batch["tags"], batch["tag_weights"])
        shares = jax.nn.softmax(logits)
        outputs = {
            "predicted": shares.argmax(axis=-1),
            "probability": shares.max(axis=-1),
            "tags": batch["tags"],
            "tag_weights": batch["tag_weights"],
            "sentence": batch["sentence"],
        }
        return {"loss": (total, "words"), "accuracy": (hits, "words")}, outputs

    # ---- scores

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        true, guess = self._by_sentence(outputs, "tags"), self._by_sentence(outputs, "predicted")
        return evaluate_tags(scores, true, guess, self.plain_tags)

    def _by_sentence(self, outputs: Outputs, name: str) -> list[list[str]]:
        """The tags of each sentence's words, put together from its windows."""
        found: list[list[str]] = []
        sentence = -1
        for row in outputs:
            if int(row["sentence"]) != sentence:
                sentence = int(row["sentence"])
                found.append([])
            found[-1] += [self.labels[i] for i in row[name][row["tag_weights"] > 0].tolist()]
        return found

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        predicted = self._by_sentence(outputs, "predicted")
        for sentence, tags in zip(self.split(split).records, predicted, strict=True):
            yield {"words": list(sentence.words), "tags": list(sentence.tags), "predicted": tags}

    def mistakes(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        records = self.split(split).records
        sentence, number = -1, 0  # of the word at hand
        for row in outputs:
            if int(row["sentence"]) != sentence:
                sentence, number = int(row["sentence"]), 0
            words = records[sentence].words
            for position in np.flatnonzero(row["tag_weights"] > 0).tolist():
                gold, predicted = (self.labels[int(row[name][position])] for name in ("tags", "predicted"))
                if gold != predicted:
                    text = [*words[max(number - 6, 0) : number], f"[{words[number]}]", *words[number + 1 : number + 7]]
                    sure = round(float(row["probability"][position]), 6)
                    yield {"text": " ".join(text), "gold": gold, "predicted": predicted, "probability": sure}
                number += 1

    # ---- new texts

    def read(self, item: Any) -> Request:
        # Cut as the pydocs task cuts them in training; whoever cuts words otherwise gives them as a list.
        return cut_words(read_request(item, ("text",), tags=True))

    def rows(self, requests: Sequence[Request]) -> list[list[Row]]:
        words = [[request.texts[0][start:end] for start, end in request.words or ()] for request in requests]
        if len(self._pieces) > _KNOWN_WORDS:
            self._pieces.clear()
        new = list({word for text in words for word in text} - self._pieces.keys())
        if new:
            self._pieces.update(zip(new, encode_words(self.tokenizer, new), strict=True))
        found = []
        for text in words:
            # The same windows as in training, so that a long text is tagged as it was learned.
            cuts = in_windows([self._pieces[word] for word in text], self.task.max_length, self._mark)
            found.append([Row((row,), positions) for row, positions, _ in cuts])
        # After the rows are made: the texts at hand may need them.
        for word in new:
            if len(word) > _LONG_WORD:
                del self._pieces[word]
        return found

    def unknown(self, rows: int, length: int) -> dict[str, np.ndarray]:
        return {
            "tags": np.zeros((rows, length), np.int32),
            "tag_weights": np.zeros((rows, length), np.float32),
            "sentence": np.zeros(rows, np.int32),
        }

    def record(self, request: Request, rows: Sequence[Row], outputs: Outputs) -> dict[str, Any]:
        text = request.texts[0]
        tags: list[str] = []
        shares: list[float] = []
        for row, output in zip(rows, outputs, strict=True):
            tags += [self.labels[number] for number in output["predicted"][row.positions].tolist()]
            shares += output["probability"][row.positions].astype(np.float64).round(6).tolist()
        words: list[dict[str, Any]] = [
            {"text": text[start:end], "start": start, "end": end, "tag": tag, "probability": probability}
            for (start, end), tag, probability in zip(request.words or (), tags, shares, strict=True)
        ]
        found = []
        for kind, first, after in spans(tags):
            start, end = words[first]["start"], words[after - 1]["end"]
            least = min(shares[first:after])
            found.append({"type": kind, "text": text[start:end], "start": start, "end": end, "probability": least})
        record: dict[str, Any] = {"text": text, **({} if self.plain_tags else {"spans": found}), "words": words}
        return record | ({"warning": request.warning} if request.warning else {})


def evaluate_tags(
    scores: dict[str, float], true: list[list[str]], guess: list[list[str]], plain: bool = False
) -> Evaluation:
    """Scores of tags by sentence: over words as scikit-learn's, and of IOB2 tags over entities as seqeval's.

    `scores` gains accuracy (words); precision, recall, f1 (entities, micro) and f1_macro (mean over types, of `plain`
    tags over those that occur). `report` is scikit-learn's over the tags that occur, `entities` seqeval's over types.
    """
    flat_true, flat_guess = [tag for tags in true for tag in tags], [tag for tags in guess for tag in tags]
    tags = sorted({*flat_true, *flat_guess})
    report = classification_report(flat_true, flat_guess, labels=tags, output_dict=True, zero_division=0)
    scores = {**scores, "accuracy": float(report["accuracy"])}
    entities: dict[str, Any] = {}
    if plain:
        scores["f1_macro"] = float(report["macro avg"]["f1-score"])
    else:
        entities = _entities(true, guess) if tags != [OUTSIDE] else {}
        micro, macro = (entities.get(f"{mean} avg", _NOTHING) for mean in ("micro", "macro"))
        scores |= {"precision": micro["precision"], "recall": micro["recall"], "f1": micro["f1-score"]}
        scores["f1_macro"] = macro["f1-score"]
    degenerate = len(set(flat_guess)) == 1 < len(set(flat_true))
    return Evaluation(
        scores,
        tags,
        confusion_matrix(flat_true, flat_guess, labels=tags).tolist() if len(tags) > 1 else [],
        report,
        entities=entities,
        degenerate=degenerate,
        notes=all_the_same(len(flat_guess), flat_guess[0]) if degenerate else [],
    )


def _entities(true: list[list[str]], guess: list[list[str]]) -> dict[str, dict[str, float]]:
    """seqeval's report. It divides by the number of types, so there must be one."""
    from seqeval.metrics import classification_report as entity_report

    report = entity_report(true, guess, output_dict=True, zero_division=0)
    return {name: {key: float(value) for key, value in row.items()} for name, row in report.items()}


def _longer_words(words: Iterable[str]) -> list[str]:
    """What to tell where Chinese or Japanese words of the training data mostly have several characters."""
    counts = {word: count for word in words if (count := characters_that_are_words(word))}
    longer = sorted(word for word, count in counts.items() if count > 1)
    if len(longer) <= len(counts) / 2:
        return []
    return [
        f"words of the training data have several characters, such as {longer[0]}, but predict cuts raw text into "
        'single ones: give it the words as {"words": [...]}, or train on a character a line'
    ]


def is_plain(labels: Sequence[str]) -> bool:
    """Whether labels are plain tags, not those of entities."""
    return list(labels) != [OUTSIDE] and not any(map(is_of_entity, labels))


def _found(tags: Iterable[Sequence[str]]) -> list[str]:
    """The labels of training data: O, and B- and I- of each type, in alphabetical order of the types; or plain tags."""
    found = {tag for sentence in tags for tag in sentence}
    if is_plain([*found]):
        return sorted(found)
    kinds = sorted({tag[2:] for tag in found if tag != OUTSIDE})
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]
