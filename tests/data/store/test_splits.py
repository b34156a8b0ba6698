"""Splits by name: stable values, shares within bands, and the sides that must not move."""

import pytest

from albert_jax.data.store.documents import SPLITS, split_of, unit_interval
from albert_jax.errors import AlbertError

NAMES = [f"package/module_{number}.py" for number in range(10_000)]


def test_positions_are_pinned():
    # Prepared corpora on disk rely on these: a change here moves documents between splits and is never
    # legitimate.
    assert unit_interval("") == pytest.approx(0.8931675, abs=1e-7)
    assert unit_interval("numpy/linalg/_linalg.py") == pytest.approx(0.6939309, abs=1e-7)


def test_shares_within_four_standard_deviations():
    counts = {split: 0 for split in SPLITS}
    for name in NAMES:
        counts[split_of(name, validation=0.1, test=0.2)] += 1
    assert abs(counts["validation"] - 1_000) < 4 * 30  # sqrt(10000 * 0.1 * 0.9) = 30
    assert abs(counts["test"] - 2_000) < 4 * 40  # sqrt(10000 * 0.2 * 0.8) = 40
    assert sum(counts.values()) == len(NAMES)


def test_test_split_does_not_depend_on_the_validation_share():
    def test_names(validation: float) -> list[str]:
        return [name for name in NAMES if split_of(name, validation, test=0.05) == "test"]

    assert test_names(0.0) == test_names(0.05) == test_names(0.5)
    assert len(test_names(0.0)) > 0


def test_raising_a_share_keeps_earlier_members():
    small = {name for name in NAMES if split_of(name, 0.05, 0.05) == "validation"}
    large = {name for name in NAMES if split_of(name, 0.10, 0.05) == "validation"}
    assert small < large


def test_whole_and_empty_shares():
    assert {split_of(name, 0.0, 0.0) for name in NAMES} == {"train"}
    assert {split_of(name, 1.0, 0.0) for name in NAMES} == {"validation"}
    assert {split_of(name, 0.0, 1.0) for name in NAMES} == {"test"}


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.6, 0.6), (float("nan"), 0.1)])
def test_impossible_shares(validation, test):
    with pytest.raises(AlbertError, match="whose sum is at most 1"):
        split_of("a", validation, test)
