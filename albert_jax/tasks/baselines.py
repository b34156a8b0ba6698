"""Plain models on the data of a task: what a model must beat to be worth its training. Seconds on one core each.

    one class      the split's most frequent class; TF-IDF + logistic regression
    several labels the split's most frequent set of labels; TF-IDF + a logistic regression for each label
    a number       the mean of the training targets; TF-IDF + ridge regression
    tags           the split's most frequent tag; the most frequent tag of each word; logistic regression on a window

They see the training examples that the run sees, and are scored as the task scores the model. The majority is that of
the split that is scored, which no model knows: it is the best of all constant answers.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from albert_jax.data.labelled.conll import Sentence
from albert_jax.data.labelled.tables import Labelled
from albert_jax.tasks.targets import AnyTarget, ManyLabels, Number, OneClass
from albert_jax.telemetry.baselines import Baseline

LOGISTIC = "TF-IDF + logistic regression"
RIDGE = "TF-IDF + ridge"
MAJORITY = "majority class"
MEAN = "mean of training"
TAG_MAJORITY = "most frequent tag"
TAG_OF_WORD = "most frequent tag per word"
WINDOW = "window + logistic regression"

_VERSION = 1  # of what is fitted here: stored baselines of another one are fitted anew

# So that 100,000 texts take seconds; what is left out is told in the baseline's note.
_CHARACTERS = 12_000_000  # of training text that TF-IDF counts
_FEATURES = 50_000  # the most frequent n-grams of a column
_EXACT = 5_000_000  # non-zero features x outputs up to which a logistic regression is solved; above, SGD approaches it
_WORK = 150_000_000  # of the same, for SGD
_WORDS = 300_000  # training words of the window model
_WINDOW_WORK = 300_000_000  # words x features x tags x passes over them

_C = 10.0  # inverse strength of the penalty: scikit-learn's 1.0 is too strong for rows of length 1
_SURE = 20.0  # logit of an answer without any doubt; its softmax is 1 in float32

# Scripts that put no spaces between words: kana, Han, Thai, Lao, Burmese, Khmer. Korean does.
_NO_SPACES = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"
)


def digest(*parts: Any) -> str:
    """Of JSON-able parts and of records, whose place in a file does not count."""
    seen = hashlib.sha256()
    for part in (_VERSION, *parts):
        seen.update(json.dumps(part, default=_content).encode("utf-8", "surrogatepass"))
    return seen.hexdigest()[:16]


def _content(record: Any) -> Any:
    return (record.words, record.tags) if isinstance(record, Sentence) else (record.texts, record.target)


@dataclass(frozen=True)
class _Training:
    """What a plain model is fitted on; equal where the digest is, so that several seeds of a run fit it once."""

    key: str
    records: Sequence[Any] = field(compare=False)
    target: Any = field(compare=False)


# ---- texts


def of_texts(target: AnyTarget, train: Sequence[Labelled], split: Sequence[Labelled]) -> list[Baseline]:
    """The constant answer and the linear model on TF-IDF, scored on `split`. The second is left out where the training
    examples hold nothing to fit: one class only, no text with a letter in it."""
    found = [_constant(target, train, split)]
    weights = getattr(target, "weights", ())
    kind = (type(target).__name__, target.labels, weights, *((target.mean,) if isinstance(target, Number) else ()))
    model = _fit_texts(_Training(digest(train, kind), train, target))
    if model is not None:
        name = RIDGE if isinstance(target, Number) else LOGISTIC
        found.append(Baseline(name, scored(target, model.logits(split), split), model.note))
    return found


def scored(target: AnyTarget, logits: np.ndarray, records: Sequence[Labelled]) -> dict[str, float]:
    """What the task scores for `logits` [examples, outputs], as if its own model had given them; a score without a
    value is left out."""
    labels, ones = jnp.asarray(target.array(records)), jnp.ones(len(records), jnp.float32)
    sums, outputs = target.sums(jnp.asarray(logits, jnp.float32), {"label": labels, "example_weight": ones})
    scores = {name: float(total) / len(records) for name, (total, _) in sums.items()}
    arrays = jax.device_get(outputs)
    rows = [{name: values[i] for name, values in arrays.items()} for i in range(len(records))]
    return {name: value for name, value in target.evaluation(scores, rows).scores.items() if np.isfinite(value)}


def _constant(target: AnyTarget, train: Sequence[Labelled], split: Sequence[Labelled]) -> Baseline:
    if isinstance(target, Number):
        mean = target.array(train).mean()
        return Baseline(MEAN, scored(target, np.full((len(split), 1), mean), split))
    answers = Counter(record.target if isinstance(record.target, tuple) else str(record.target) for record in split)
    most = answers.most_common(1)[0][0]
    applies = np.isin(target.labels, [most] if isinstance(most, str) else list(most))
    scores = scored(target, np.tile(np.where(applies, _SURE, -_SURE), (len(split), 1)), split)
    # A constant answer has no probabilities, and so no loss.
    del scores["loss"]
    name = MAJORITY if isinstance(target, OneClass) else "most frequent set of labels"
    return Baseline(name, scores)


@dataclass(frozen=True)
class _TextModel:
    vectorizers: Sequence[Any]  # a TfidfVectorizer for each column
    predict: Callable[[Any], np.ndarray]  # sparse [examples, features] to logits [examples, outputs]
    note: str

    def logits(self, records: Sequence[Labelled]) -> np.ndarray:
        return self.predict(_features(self.vectorizers, records))


def _features(vectorizers: Sequence[Any], records: Sequence[Labelled]) -> Any:
    # Columns of their own for each text of a pair: a word of the one is another feature than that word of the other.
    columns = [each.transform([record.texts[i] for record in records]) for i, each in enumerate(vectorizers)]
    return sparse.hstack(columns, format="csr")


@lru_cache(maxsize=1)
def _fit_texts(training: _Training) -> _TextModel | None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    target, total = training.target, len(training.records)
    # Shuffled: files are often sorted by label, and a part must be a sample.
    order = np.random.default_rng(0).permutation(total)
    records = [training.records[i] for i in order]
    records = records[: _fitting((sum(map(len, record.texts)) for record in records), _CHARACTERS)]

    vectorizers = []
    for texts in zip(*(record.texts for record in records), strict=True):
        vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=_FEATURES, dtype=np.float32, **_ngrams(texts))
        try:
            vectorizers.append(vectorizer.fit(texts))
        except ValueError:  # "empty vocabulary"
            return None
    features, labels = _features(vectorizers, records), target.array(records)
    used = _fitting(np.diff(features.indptr) * _outputs(target), _WORK)
    predict = _fit_linear(target, features[:used], labels[:used])
    if predict is None:
        return None
    size = sum(len(each.vocabulary_) for each in vectorizers)
    capped = f"; the {_FEATURES:,} most frequent n-grams" if size == _FEATURES * len(vectorizers) else ""
    seen = f"trained on {used:,} of {total:,} texts, to take seconds" if used < total else ""
    return _TextModel(vectorizers, predict, (seen + capped).removeprefix("; "))


def _ngrams(texts: Sequence[str]) -> dict[str, Any]:
    """What a TfidfVectorizer counts: words and pairs of them; characters, up to three, of texts without spaces."""
    sample = "".join(text[:1000] for text in texts[:1000])
    letters = sum(map(str.isalpha, sample))
    if 3 * len(_NO_SPACES.findall(sample)) > letters:
        return {"analyzer": "char", "ngram_range": (1, 3)}
    return {"ngram_range": (1, 2), "token_pattern": r"\w+"}  # scikit-learn's own pattern drops "I" and "5"


def _fitting(sizes: Iterable[float], most: float) -> int:
    """How many of `sizes`, from the first, add up to at most `most`; one at least."""
    return max(1, int(np.searchsorted(np.cumsum(np.fromiter(sizes, np.float64)), most, side="right")))


def _outputs(target: AnyTarget) -> int:
    return 1 if isinstance(target, OneClass) and len(target.labels) == 2 else target.outputs


def _fit_linear(target: AnyTarget, features: Any, labels: np.ndarray) -> Callable[[Any], np.ndarray] | None:
    """A function of features to logits; None where the labels do not vary. Class weights are those of the task."""
    from sklearn.linear_model import Ridge

    if len(labels) < 2 or (labels == labels[0]).all():
        return None
    if isinstance(target, Number):
        ridge = Ridge(alpha=1.0, solver="sparse_cg").fit(features, labels)
        return lambda rows: np.asarray(ridge.predict(rows)).reshape(-1, 1)
    exact = features.nnz * _outputs(target) <= _EXACT
    if isinstance(target, ManyLabels):
        each = [
            _logistic(features, column, {0: 1.0, 1: weight}, exact) if np.ptp(column) else None
            for column, weight in zip(labels.astype(np.int32).T, target.weights, strict=True)
        ]
        # A label that all or none of the training texts have.
        sure = np.where(labels[0] > 0.5, _SURE, -_SURE)
        return lambda rows: np.stack(
            [
                np.full(rows.shape[0], sure[number]) if one is None else one.decision_function(rows)
                for number, one in enumerate(each)
            ],
            axis=1,
        )
    one = _logistic(features, labels, {int(number): target.weights[number] for number in np.unique(labels)}, exact)

    def of_classes(rows: Any) -> np.ndarray:
        # A class that training does not have gets no probability.
        logits = np.full((rows.shape[0], len(target.labels)), -_SURE)
        found = one.decision_function(rows)
        if found.ndim == 1:
            found = np.stack([np.zeros_like(found), found], axis=1)
        elif not exact:
            # SGD tells each class from all others: its probabilities are sigmoids, divided by their sum.
            found = -np.logaddexp(0, -found)
        logits[:, one.classes_] = found
        return logits

    return of_classes


def _logistic(features: Any, truth: np.ndarray, weights: dict[int, float], exact: bool) -> Any:
    """A fitted logistic regression: by L-BFGS, or averaged over five passes of stochastic gradient descent, which costs
    a hundredth with many examples and classes and is as good (0.613 against 0.589 of 35 topics, 39,000 texts)."""
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    model: Any = LogisticRegression(C=_C, tol=1e-3, max_iter=100, class_weight=weights)
    if not exact:
        strength = 1 / (2 * _C * len(truth))  # of the mean loss, where C is of the sum
        model = SGDClassifier(loss="log_loss", alpha=strength, max_iter=5, tol=None, average=True, random_state=0,
                              class_weight=weights)  # fmt: skip
    return model.fit(features, truth)


# ---- tags

Tags = list[list[str]]  # by sentence


def of_tags(
    train: Sequence[Sentence], split: Sequence[Sentence], score: Callable[[Tags, Tags], dict[str, float]]
) -> list[Baseline]:
    """The most frequent tag, that of each word, and a window model, scored on `split` by `score(true, guess)`."""
    true = [list(sentence.tags) for sentence in split]
    most = Counter(tag for tags in true for tag in tags).most_common(1)[0][0]
    found = [Baseline(TAG_MAJORITY, score(true, [[most] * len(tags) for tags in true]))]
    tag_of, common = _tags_of_words(train)
    guess = [[tag_of.get(word, common) for word in sentence.words] for sentence in split]
    found.append(Baseline(TAG_OF_WORD, score(true, guess)))
    model = _fit_window(_Training(digest(train), train, None))
    if model is not None:
        found.append(Baseline(WINDOW, score(true, model.tags(split)), model.note))
    return [Baseline(each.name, _numbers(each.scores), each.note) for each in found]


def _numbers(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _tags_of_words(train: Sequence[Sentence]) -> tuple[dict[str, str], str]:
    """Word -> its most frequent tag, and the most frequent tag of all, for words that training does not have."""
    seen: dict[str, Counter[str]] = {}
    for sentence in train:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            seen.setdefault(word, Counter())[tag] += 1
    common = sum(seen.values(), Counter[str]()).most_common(1)[0][0]
    return {word: counter.most_common(1)[0][0] for word, counter in seen.items()}, common


@dataclass(frozen=True)
class _WindowModel:
    hasher: Any
    classifier: Any
    note: str

    def tags(self, sentences: Sequence[Sentence]) -> Tags:
        flat = self.classifier.predict(self.hasher.transform(_windows(sentences))).tolist()
        words = iter(flat)
        return [[next(words) for _ in sentence.words] for sentence in sentences]


@lru_cache(maxsize=1)
def _fit_window(training: _Training) -> _WindowModel | None:
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    order = np.random.default_rng(0).permutation(len(training.records))
    sentences = [training.records[i] for i in order]
    used = sentences[: _fitting((len(sentence.words) for sentence in sentences), _WORDS)]
    tags = [tag for sentence in used for tag in sentence.tags]
    kinds = len(set(tags))
    if kinds < 2:
        return None
    hasher = FeatureHasher(2**18, input_type="string", alternate_sign=False, dtype=np.float32)
    features = hasher.transform(_windows(used))
    passes = int(np.clip(_WINDOW_WORK / (features.nnz * (kinds if kinds > 2 else 1)), 3, 12))
    classifier = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=passes, tol=None, average=True, random_state=0)
    classifier.fit(features, tags)
    total = len(training.records)
    seen = f"trained on {len(used):,} of {total:,} sentences, to take seconds" if len(used) < total else ""
    return _WindowModel(hasher, classifier, seen)


def _windows(sentences: Sequence[Sentence]) -> Iterator[list[str]]:
    """The features of each word: itself and its neighbours, alone and in pairs, its ends and its shape.

    >>> next(_windows([Sentence(("Anna", "went"), ("B-PER", "O"), "")]))[:3]
    ['w=Anna', 'l=anna', 's=Xx']
    """
    for sentence in sentences:
        words = sentence.words
        low = ["<<", "<", *(word.lower() for word in words), ">", ">>"]
        shapes = ["", *map(_shape, words), ""]
        for i, word in enumerate(words):
            far, before, here, after, further = low[i : i + 5]
            yield [
                f"w={word}", f"l={here}", f"s={shapes[i + 1]}",
                f"-2={far}", f"-1={before}", f"+1={after}", f"+2={further}",
                f"-1,0={before} {here}", f"0,+1={here} {after}", f"-1,+1={before} {after}",
                f"s-1={shapes[i]}", f"s+1={shapes[i + 2]}", f"s,s={shapes[i]} {shapes[i + 1]} {shapes[i + 2]}",
                *(f"{n}<{here[:n]}" for n in range(1, 5)), *(f"{n}>{here[-n:]}" for n in range(1, 5)),
            ]  # fmt: skip


def _shape(word: str) -> str:
    """Its kinds of characters, each run once: "Xx" for Anna, "9-X" for 12-KB."""
    kinds = ("9" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in word[:40])
    shape = ""
    for kind in kinds:
        if not shape.endswith(kind):
            shape += kind
    return shape
