"""The collapse watch: says in the log, once, that a pretraining run is not learning what it should.

A masked language model that only knows how frequent each piece is has a loss equal to the entropy of the
corpus' unigrams, and an order head that knows nothing has ln 2. Runs that park there look busy for days.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

LN2 = math.log(2.0)  # loss in nats of a coin flip between "in order" and "swapped"


@dataclass(frozen=True)
class WatchConfig:
    """When a flat curve is a collapse rather than a beginning."""

    grace_steps: int = 5000  # steps before MLM is judged; warm-up and then some
    order_grace_steps: int = 10000  # steps before order is judged; it is learned later than MLM
    window: int = 20  # records in the running mean; all of them must lie after the grace period
    mlm_margin: float = 0.1  # nats below the unigram entropy that count as having learned something
    order_margin: float = 0.01  # nats below ln 2 that count as having learned something

    def build(self, unigram_entropy: float | None) -> "CollapseWatch":
        """A watch for a corpus of this unigram entropy (nats); None judges order and non-finite only."""
        return CollapseWatch(self, unigram_entropy)


class CollapseWatch:
    """Feed it every training record; it answers with what the user should be told, usually nothing.

    Three conditions, each told at most once in the life of the object: the running mean of the MLM loss is
    not below the unigram entropy, that of the order loss is not below ln 2, or a loss is not a number.
    """

    def __init__(self, config: WatchConfig, unigram_entropy: float | None):
        self._config = config
        self._entropy = unigram_entropy
        self._told: set[str] = set()
        self._mlm: deque[float] = deque(maxlen=config.window)
        self._order: deque[float] = deque(maxlen=config.window)

    def observe(self, step: int, scalars: Mapping[str, float]) -> list[str]:
        """`scalars` of one training record (`loss`, `mlm_loss`, `order_loss`, nats); absent ones are not
        judged. Returns the sentences to log now."""
        sentences = []
        for name in ("loss", "mlm_loss", "order_loss"):
            value = scalars.get(name)
            if value is not None and not math.isfinite(value) and "finite" not in self._told:
                self._told.add("finite")
                sentences.append(_not_finite(step, name, value))
        mlm = self._mean_after(step, self._config.grace_steps, self._mlm, scalars.get("mlm_loss"))
        entropy, margin = self._entropy, self._config.mlm_margin
        if "mlm" not in self._told and mlm is not None and entropy is not None and mlm > entropy - margin:
            self._told.add("mlm")
            sentences.append(_mlm_collapsed(step, mlm, entropy, margin))
        order = self._mean_after(step, self._config.order_grace_steps, self._order, scalars.get("order_loss"))
        if order is not None and "order" not in self._told and order > LN2 - self._config.order_margin:
            self._told.add("order")
            sentences.append(_order_collapsed(step, order))
        return sentences

    @staticmethod
    def _mean_after(step: int, grace: int, seen: deque[float], value: float | None) -> float | None:
        if value is None or step <= grace or not math.isfinite(value):
            return None
        seen.append(value)
        return sum(seen) / len(seen) if len(seen) == seen.maxlen else None


def _not_finite(step: int, name: str, value: float) -> str:
    return (
        f"collapse watch: {name} is {value} at step {step}. Likely causes: learning rate too high or warm-up "
        "too short for this batch size, no gradient clipping, or a compute dtype of float16."
    )


def _mlm_collapsed(step: int, loss: float, entropy: float, margin: float) -> str:
    if loss > entropy + 5 * margin:
        state = (
            f"MLM loss {loss:.2f} is above the corpus' unigram entropy {entropy:.2f} nats at step {step}: "
            "the model does worse than always guessing by piece frequency"
        )
    else:
        state = (
            f"MLM loss {loss:.2f} sits at the corpus' unigram entropy {entropy:.2f} nats at step {step}: the "
            "model predicts how frequent pieces are and reads no context"
        )
    return (
        f"collapse watch: {state}. Likely causes: learning rate not scaled to the batch size, warm-up longer "
        "than the run so far or too short, a compute dtype of float16, or labels that do not belong to the "
        "masked positions."
    )


def _order_collapsed(step: int, loss: float) -> str:
    return (
        f"collapse watch: sentence-order loss {loss:.3f} sits at ln 2 = {LN2:.3f} at step {step}: the order "
        "head guesses. Likely causes: learning rate too high or not scaled to the batch size, segments too "
        "short to tell their order, order labels drawn independently of the swap, or simply too few steps "
        "(order is learned after MLM)."
    )
