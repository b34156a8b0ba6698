"""The collapse watch: says in the log, once, that a pretraining run is not learning what it should."""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from albert_jax.fields import knob

LN2 = math.log(2.0)  # loss in nats of a coin flip between "in order" and "swapped"


@dataclass(frozen=True)
class WatchConfig:
    """When a flat curve is a collapse rather than a beginning."""

    grace_steps: int = knob(5000, at_least=0)  # steps before MLM is judged; warm-up and then some
    order_grace_steps: int = knob(10000, at_least=0)  # steps before order is judged; it is learned later than MLM
    window: int = knob(20, at_least=1)  # records in the running mean; all of them must lie after the grace period
    mlm_margin: float = 0.1  # nats below the unigram entropy that count as having learned something
    order_margin: float = 0.01  # nats below ln 2 that count as having learned something


class CollapseWatch:
    """Feed it every training record; it answers with what the user should read, usually nothing.

    `unigram_entropy` is that of the corpus in nats; None judges order and non-finite only.

    Three conditions, each reported at most once in the life of the object: the running mean of the MLM loss is
    not below the unigram entropy, that of the order loss is not below ln 2, or a loss is not a number.
    """

    def __init__(self, config: WatchConfig, unigram_entropy: float | None):
        self._config = config
        self._entropy = unigram_entropy
        self._reported: set[str] = set()
        self._mlm: deque[float] = deque(maxlen=config.window)
        self._order: deque[float] = deque(maxlen=config.window)

    def observe(self, step: int, scalars: Mapping[str, float]) -> list[str]:
        """`scalars` of one training record (`loss`, `mlm_loss`, `order_loss`, nats); absent ones are not
        judged. Returns the sentences to log now."""
        sentences = []
        for condition, sentence in self._conditions(step, scalars):
            if condition not in self._reported:
                # Once only: the condition holds at every record from here on, and would bury the rest of the log.
                self._reported.add(condition)
                sentences.append(f"collapse watch: {sentence}")
        return sentences

    def _conditions(self, step: int, scalars: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        # A masked language model that only knows how frequent each piece is has a loss equal to the entropy of the
        # corpus' unigrams, and an order head that knows nothing has ln 2. Runs that stay there look busy for days.
        config, entropy = self._config, self._entropy
        for name in ("loss", "mlm_loss", "order_loss"):
            if not math.isfinite(scalars.get(name, 0.0)):
                text = (
                    f"{name} is {scalars[name]} at step {step}. Likely causes: learning rate too high or warm-up "
                    "too short for this batch size, no gradient clipping, or a compute dtype of float16."
                )
                yield "finite", text
        mlm = self._mean_after(step, config.grace_steps, self._mlm, scalars.get("mlm_loss"))
        if mlm is not None and entropy is not None and mlm > entropy - config.mlm_margin:
            yield "mlm", _mlm_collapsed(step, mlm, entropy, config.mlm_margin)
        order = self._mean_after(step, config.order_grace_steps, self._order, scalars.get("order_loss"))
        if order is not None and order > LN2 - config.order_margin:
            text = (
                f"sentence-order loss {order:.3f} sits at ln 2 = {LN2:.3f} at step {step}: the order head guesses. "
                "Likely causes: learning rate too high or not scaled to the batch size, segments too short to tell "
                "their order, order labels drawn independently of the swap, or simply too few steps (order is learned "
                "after MLM)."
            )
            yield "order", text

    @staticmethod
    def _mean_after(step: int, grace: int, seen: deque[float], value: float | None) -> float | None:
        if value is None or step <= grace or not math.isfinite(value):
            return None
        seen.append(value)
        # A single batch is noisy enough to cross either margin, so no verdict before the window is full.
        return sum(seen) / len(seen) if len(seen) == seen.maxlen else None


def _mlm_collapsed(step: int, loss: float, entropy: float, margin: float) -> str:
    # Well above the entropy is another illness than at it: the model is wrong about frequencies too.
    if loss > entropy + 5 * margin:
        relation, meaning = "is above", "does worse than always guessing by piece frequency"
    else:
        relation, meaning = "sits at", "predicts how frequent pieces are and reads no context"
    return (
        f"MLM loss {loss:.2f} {relation} the corpus' unigram entropy {entropy:.2f} nats at step {step}: the model "
        f"{meaning}. Likely causes: learning rate not scaled to the batch size, warm-up longer than the run so far or "
        "too short, a compute dtype of float16, or labels that do not belong to the masked positions."
    )
