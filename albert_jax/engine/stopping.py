"""When a run ends before its last step: a validation score that no longer gets better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from albert_jax.errors import AlbertError
from albert_jax.fields import knob
from albert_jax.telemetry.scores import Score


@dataclass(frozen=True)
class StoppingConfig:
    """Which score ranks a run's checkpoints, and how long it may go without a better one."""

    score: str = ""  # name of a validation score; empty takes the task's own choice
    patience: int = knob(0, at_least=0)  # evaluations in a row without a better score before the run ends; 0 = never
    least_gain: float = knob(0.0, at_least=0)  # by how much a score must be better to count

    def rank_by(self, best: str, scores: Sequence[Score]) -> Score:
        """The one of `scores`, those of the task's evaluations, that ranks checkpoints; `best` names the task's choice.

        Raises AlbertError for a name that is not among them.
        """
        name, named = self.score or best, {score.name: score for score in scores}
        if name not in named:
            raise AlbertError(f"stopping.score is {name!r}; the task's scores are {', '.join(named)}")
        return named[name]


class Patience:
    """Counts evaluations without a better score.

    Args:
      config: see `StoppingConfig`
      ranking: name of the score, and whether more of it is better
      stored: `state` of a run that is continued
    """

    def __init__(self, config: StoppingConfig, ranking: tuple[str, bool], stored: Mapping[str, Any] | None = None):
        stored = stored or {}
        self._config = config
        self._name, self._higher_is_better = ranking
        self._best: float | None = stored.get("best")
        self._best_step: int = stored.get("best_step", 0)
        self._waited: int = stored.get("waited", 0)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {"best": self._best, "best_step": self._best_step, "waited": self._waited}

    def observe(self, step: int, scores: Mapping[str, float]) -> bool:
        """Takes the evaluation after `step`; True when it is the best so far."""
        value = scores[self._name]
        # Against the best, not the last: gains that are small one by one count once they add up to least_gain.
        gain = math.inf if self._best is None else (value - self._best) * (1 if self._higher_is_better else -1)
        # A score that is not a number is never the best, or no later one could beat it.
        if math.isfinite(value) and gain > self._config.least_gain:
            self._best, self._best_step, self._waited = float(value), step, 0
            return True
        self._waited += 1
        return False

    @property
    def over(self) -> bool:
        """Whether the run shall end."""
        return 0 < self._config.patience <= self._waited

    @property
    def reason(self) -> str:
        """Why the run ends."""
        best = "never a number" if self._best is None else f"best {self._best:.4f} at step {self._best_step:,}"
        return f"stopped early: {self._name} has not improved for {self._waited} evaluations ({best})"
