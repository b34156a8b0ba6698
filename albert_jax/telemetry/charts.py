"""Pictures by matplotlib: curves and confusion matrix of a report, bars of a plan, points of a search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from albert_jax.telemetry.scores import Score
from albert_jax.telemetry.tables import format_count

# Axes and text. Backgrounds are transparent and the ink is of middle lightness, with a contrast of about 4 on white and
# on #12161c, so that one picture reads well on a white and on a dark page.
INK = "#7d8590"
COLORS = {"train": "#3b82f6", "validation": "#f08c00", "test": "#d6336c", "baseline": "#12a594"}
# Not the settings of the reader's matplotlib, and its own font: the same picture on every machine.
_STYLE: Any = {
    "font.family": "DejaVu Sans", "text.color": INK, "figure.constrained_layout.use": True,
    "figure.titlesize": 11, "figure.titleweight": "bold", "savefig.dpi": 160, "savefig.transparent": True,
    "axes.facecolor": "none", "axes.edgecolor": f"{INK}80", "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlelocation": "left", "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlecolor": INK,
    "axes.labelsize": 9, "axes.labelcolor": INK, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": INK, "grid.alpha": 0.22, "grid.linewidth": 0.7,
    "xtick.color": INK, "xtick.labelsize": 8.5, "xtick.major.size": 3,
    "ytick.color": INK, "ytick.labelsize": 8.5, "ytick.major.size": 3,
    "legend.frameon": False, "legend.fontsize": 8, "legend.columnspacing": 1.0, "legend.borderaxespad": 0.0,
}  # fmt: skip
# A schedule has no noise in it, and smoothing would round its corners.
_NOT_SMOOTHED = ("learning_rate",)
# Sizes of something: an axis that does not begin at 0 would make their small changes look large.
_FROM_ZERO = ("learning_rate", "tokens_per_second")
_LEGIBLE = 25  # classes that a confusion matrix has room for, with their names and numbers


# ---- curves


@rc_context(_STYLE)
def draw_curve(score: Score, records: Sequence[Mapping[str, Any]], path: Path, best: int | None = None) -> bool:
    """Draws a score of `metrics.jsonl` against the step to `path`, the validation after step `best` marked; False, and
    no file, when no record holds it."""
    series: dict[str, np.ndarray] = {}
    holding = [record for record in records if record.get(score.name) is not None]
    for kind in ("train", "validation", "test"):
        points = np.array([(r["step"], r[score.name]) for r in holding if r["kind"] == kind], float).reshape(-1, 2)
        if np.isfinite(points[:, 1]).any():
            series[kind] = points
    if not series:
        return False

    figure = _figure(5.2, 3.1)
    axes = figure.add_subplot()
    for kind, points in series.items():
        _draw_series(axes, kind, points, smoothed=score.name not in _NOT_SMOOTHED)
    marked = series["validation"][series["validation"][:, 0] == best] if "validation" in series else np.empty((0, 2))
    if len(marked):
        # Hollow and large, so that the curve and a noisy neighbour stay to be seen in it.
        axes.plot(*marked[-1], marker="o", markersize=10, linestyle="", markerfacecolor="none", markeredgewidth=1.6,
                  markeredgecolor=COLORS["validation"], zorder=4, label=f"best step {best:,}")  # fmt: skip
    if score.baseline is not None:
        axes.axhline(score.baseline, color=COLORS["baseline"], linewidth=1.4, linestyle=(0, (5, 3)),
                     label=score.baseline_text)  # fmt: skip
    _limit_values(axes, score, np.concatenate([points[:, 1] for points in series.values()]))
    axes.set_title(score.chart_title)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0) if score.is_share else FuncFormatter(_tick))
    # Below the axes: names of baselines are longer than what is free beside the title.
    entries = len(series) + (score.baseline is not None) + bool(len(marked))
    figure.legend(loc="outside lower left", ncols=2 if entries == 4 else entries, handlelength=1.4)
    figure.savefig(path)
    return True


def _draw_series(axes: Axes, kind: str, points: np.ndarray, smoothed: bool) -> None:
    steps, values = points[:, 0], points[:, 1]
    line: dict[str, Any] = {"color": COLORS[kind], "linewidth": 1.6, "label": kind}
    if kind != "train":
        axes.plot(steps, values, marker="o", markersize=3.5, zorder=3, **line)
    elif smoothed and len(steps) >= 30:
        axes.plot(steps, values, color=COLORS[kind], linewidth=0.8, alpha=0.3)
        axes.plot(steps, smooth(values), **line)
    else:
        axes.plot(steps, values, marker="o" if len(steps) < 3 else "", **line)


def smooth(values: np.ndarray, share: float = 0.04) -> np.ndarray:
    """Running mean over `share` of the points at most. Non-finite values are left out of the means."""
    half = max(1, round(len(values) * share / 2))
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(values))
    # Centred, and towards the start the window shrinks on both sides: a steep beginning is not flattened.
    reach = np.minimum(index, half)
    low, high = index - reach, np.minimum(index + reach + 1, len(values))
    total, count = sums[high] - sums[low], counts[high] - counts[low]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _tick(value: float, _: int) -> str:
    """16000 as 16k, 0.00176 as 1.76e-3, anything in between as it is."""
    if abs(value) >= 1e3:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k"
    if 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"


def _limit_values(axes: Axes, score: Score, values: np.ndarray) -> None:
    values = values[np.isfinite(values)]
    # One spike of a diverging step would press the rest of a long curve flat.
    low, high = np.percentile(values, [0.5, 99.5]) if len(values) >= 200 else (values.min(), values.max())
    if score.baseline is not None:
        low, high = min(low, score.baseline), max(high, score.baseline)
    if score.name in _FROM_ZERO and low > 0:
        low = 0.0
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    bottom = low - margin if low < 0 else max(low - margin, 0.0)
    axes.set_ylim(bottom, min(high + margin, 1.02) if score.is_share and high <= 1 else high + margin)


# ---- confusion matrix


@rc_context(_STYLE)
def draw_confusion(labels: Sequence[str], confusion: np.ndarray, path: Path) -> str:
    """`confusion` [C, C]: rows are the true classes, columns the predicted ones; colour is the share of the row, the
    number in a cell the count. Beyond 25 classes only those that are confused most are drawn; returns the sentence that
    says so, else nothing."""
    totals = confusion.sum(axis=1, keepdims=True)
    caption = ""
    if len(labels) > _LEGIBLE:
        wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
        kept = np.sort(np.argsort(-wrong, kind="stable")[:_LEGIBLE])
        caption = (
            f"The {_LEGIBLE} of {len(labels)} classes that are confused most; colours are shares of all examples of "
            "the true class."
        )
        labels, confusion, totals = [labels[i] for i in kept], confusion[np.ix_(kept, kept)], totals[kept]
    classes = len(labels)
    side = min(max(2.6, 0.42 * classes + 1.2), 13.0)
    figure = _figure(side + 1.0, side)
    axes = figure.add_subplot()
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    paint = np.zeros((classes, classes, 4))
    paint[..., :3] = (0.18, 0.44, 0.86)
    # Opacity instead of a colour map, so that empty cells take the page's own colour; it climbs fast around
    # 0.3, because neither grey nor white numbers can be read on a middling blue.
    paint[..., 3] = np.interp(shares, (0.0, 0.2, 0.35, 1.0), (0.03, 0.22, 0.8, 1.0))
    axes.imshow(paint, interpolation="nearest", aspect="equal")
    short, size = [_shortened(label, 22) for label in labels], 8.5
    axes.set_xticks(range(classes), short, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(classes), short, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.argwhere(confusion):
        color, weight = "white" if shares[row, column] > 0.28 else INK, "bold" if row == column else "normal"
        text = format_count(float(confusion[row, column]))
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7.5, fontweight=weight)
    figure.savefig(path)
    return caption


# ---- stacked bars


@dataclass(frozen=True)
class Bar:
    """One horizontal bar made of parts."""

    label: str  # what is measured, with its unit
    parts: Mapping[str, float]  # name to value, from the left
    limit: float = 0.0  # drawn as a line across; 0 draws none
    limit_label: str = ""  # what stands beside the line


@rc_context(_STYLE)
def draw_bars(title: str, bars: Sequence[Bar], path: Path) -> None:
    """Bars one below the other, each with a scale and a legend of its own, to `path`."""
    figure = _figure(7.2, 1.5 * len(bars) + 0.4, title)
    for row, bar in enumerate(bars):
        axes = figure.add_subplot(len(bars), 1, row + 1)
        axes.spines["left"].set_visible(False)
        left = 0.0
        for color, (name, value) in zip((*COLORS.values(), INK), bar.parts.items(), strict=False):
            axes.barh([0], [value], left=left, height=0.6, color=color, label=f"{name} {value:,.3g}")
            left += value
        if bar.limit:
            axes.axvline(bar.limit, color=INK, linewidth=1.6, linestyle=(0, (5, 3)))
            text = f"{bar.limit_label} {bar.limit:,.3g} "
            axes.text(bar.limit, 0.5, text, ha="right", va="top", fontsize=8)
        axes.set_xlim(0, 1.06 * max(left, bar.limit) or 1.0)
        # Each bar has axes of its own, for GiB and milliseconds share no scale: nothing to read off the vertical one.
        axes.set_ylim(-0.5, 0.5)
        axes.set_yticks([])
        axes.set_title(bar.label, fontsize=9, fontweight="normal")
        _legend(axes, len(bar.parts), handlelength=0.9)
    figure.savefig(path)


# ---- points


@dataclass(frozen=True)
class Panel:
    """Points of one quantity, side by side with others that share the vertical axis."""

    label: str  # what stands below
    positions: Sequence[Any]  # numbers, or some of `words`
    log: bool = False
    words: Sequence[str] = ()  # each gets a position of its own, in this order
    whole: bool = False  # the numbers are whole


@rc_context(_STYLE)
def draw_points(title: str, label: str, values: Sequence[float], weak: Sequence[bool], panels: Sequence[Panel],
                best: int, path: Path) -> None:  # fmt: skip
    """A panel for each of `panels` with a point at (its position, value) to `path`, three a row. Points of `weak` are
    hollow; `best` is the number of the point that is marked in all."""
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = _figure(3.4 * columns + 0.4, 2.7 * rows + 0.3, title)
    faces = ["none" if hollow else COLORS["train"] for hollow in weak]
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        positions = [panel.words.index(word) for word in panel.positions] if panel.words else list(panel.positions)
        if panel.log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        locator = LogLocator(subs=(1.0, 2.0, 5.0)) if panel.log else MaxNLocator(6, integer=panel.whole)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        if panel.words:
            axes.set_xticks(range(len(panel.words)), [_shortened(word, 16) for word in panel.words])
            axes.set_xlim(-0.5, len(panel.words) - 0.5)
        axes.scatter(positions, values, s=22, facecolors=faces, edgecolors=COLORS["train"], linewidths=1.1, zorder=3)
        axes.scatter([positions[best]], [values[best]], s=95, facecolors="none", edgecolors=COLORS["validation"],
                     linewidths=1.8, zorder=4)  # fmt: skip
        axes.set_xlabel(panel.label)
        if number % columns == 0:
            axes.set_ylabel(label)
    figure.savefig(path)


# ---- what all share


def _figure(width: float, height: float, title: str = "") -> Figure:
    # Not pyplot: it would look for a display, and keep every figure in memory.
    figure = Figure(figsize=(width, height))
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def _legend(axes: Axes, entries: int, handlelength: float) -> None:
    # Beside the title, where no curve can be; loc="best" also takes a second on long curves.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=entries, handlelength=handlelength)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
