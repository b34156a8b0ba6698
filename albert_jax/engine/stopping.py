"""When a run ends before its last step: a validation score that no longer gets better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from albert_jax.errors import AlbertError


@dataclass(frozen=True)
class StoppingConfig:
    """Which score ranks a run's checkpoints, and how long it may go without a better one."""

    score: str = ""  # validation score; empty takes the task's own. Less of a name that ends in loss or rmse is better
    patience: int = 0  # evaluations in a row without a better score before the run ends; 0 = it runs to its last step
    least_gain: float = 0.0  # by how much a score must be better to count

    def ranking(self, own: tuple[str, bool], scores: Sequence[str]) -> tuple[str, bool]:
        """(score, whether more of it is better); `own` is the task's choice, `scores` what its evaluations hold.

        Raises AlbertError for a score that is not among them, or a negative patience.
        """
        if self.patience < 0 or self.least_gain < 0:
            raise AlbertError("stopping.patience and stopping.least_gain must not be negative")
        if not self.score:
            return own
        if self.score not in scores:
            raise AlbertError(f"stopping.score is {self.score!r}; the task's scores are {', '.join(scores)}")
        return self.score, not self.score.endswith(("loss", "rmse"))

    def rank_by(self, best: str, scores: Sequence[Any]) -> Any:
        """The score that ranks: `best` is the name of the task's choice, `scores` what its evaluations hold.

        Raises AlbertError for a score that is not among them.
        """
        known = {score.name: score for score in scores}
        name = self.score or best
        if name not in known:
            raise AlbertError(f"stopping.score is {name!r}; the task's scores are {', '.join(known)}")
        return known[name]


class Patience:
    """Fed with every evaluation, it knows whether the last was the best and whether it is time to stop.

    Args:
        config: see `StoppingConfig`.
        ranking: score, and whether more of it is better.
        seen: `state` of a run that is continued.
    """

    def __init__(self, config: StoppingConfig, ranking: tuple[str, bool], seen: Mapping[str, Any] | None = None):
        self._config = config
        self._name, self._more = ranking
        self._best: float | None = (seen or {}).get("best")
        self._best_step: int = (seen or {}).get("best_step", 0)
        self._waited: int = (seen or {}).get("waited", 0)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {"best": self._best, "best_step": self._best_step, "waited": self._waited}

    def observe(self, step: int, scores: Mapping[str, float]) -> bool:
        """Takes the evaluation after `step`; True when it is the best so far. One that is not a number never is."""
        value = scores[self._name]
        gain = math.inf if self._best is None else (value - self._best) * (1 if self._more else -1)
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
    def told(self) -> str:
        """Why the run ends."""
        best = "never a number" if self._best is None else f"best {self._best:.4f} at step {self._best_step:,}"
        return f"stopped early: {self._name} has not improved for {self._waited} evaluations ({best})"
