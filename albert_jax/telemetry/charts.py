"""The PNG curves and the confusion matrix of a report, drawn with matplotlib (no display needed).

Backgrounds are transparent and all ink is of middle lightness, so that one picture reads well on a white and
on a dark page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from albert_jax.telemetry.progress import format_count

INK = "#7d8590"  # axes and text: contrast of about 4 on white and on #12161c
COLORS = {"train": "#3b82f6", "validation": "#f08c00", "test": "#d6336c", "baseline": "#12a594"}
_FAMILY = ["DejaVu Sans"]  # the font that comes with matplotlib: the same picture on every machine
_DPI = 160


@dataclass(frozen=True)
class Curve:
    """One chart: a scalar of `metrics.jsonl` against the step."""

    file: str  # name of the PNG
    title: str
    scalar: str  # name in the records
    baseline: str = ""  # name in the baselines: a horizontal line
    baseline_label: str = ""  # what stands in the legend for it
    percent: bool = False  # values are shares 0..1, shown as percent
    steady: bool = False  # no noise in it: drawn as it is, not smoothed


CURVES = (
    Curve("loss.png", "Loss (nats)", "loss"),
    Curve("mlm_loss.png", "MLM loss (nats)", "mlm_loss", "unigram_entropy", "unigram entropy"),
    Curve("mlm_accuracy.png", "MLM accuracy", "mlm_accuracy", "unigram_accuracy", "unigram baseline", True),
    Curve("order_accuracy.png", "Order accuracy", "order_accuracy", "order_chance", "chance", True),
    Curve("accuracy.png", "Accuracy", "accuracy", "majority_accuracy", "majority class", True),
    Curve("f1.png", "F1, mean over classes", "f1_macro", percent=False),
    Curve("entity_f1.png", "F1 over entities", "f1"),
    Curve("pearson.png", "Pearson correlation", "pearson"),
    Curve("learning_rate.png", "Learning rate", "learning_rate", steady=True),
    Curve("throughput.png", "Throughput (tokens/s)", "tokens_per_second"),
)


def draw_curve(curve: Curve, records: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], path: Path) -> bool:
    """Draws one chart to `path`; False, and no file, when the records do not hold its scalar."""
    series: dict[str, np.ndarray] = {}
    for kind in ("train", "validation", "test"):
        pairs = [
            (record["step"], record[curve.scalar])
            for record in records
            if record["kind"] == kind and record.get(curve.scalar) is not None
        ]
        if any(math.isfinite(value) for _, value in pairs):
            series[kind] = np.array(pairs, float)
    if not series:
        return False

    figure, axes = _figure(5.2, 3.0)
    for kind, points in series.items():
        _draw_series(axes, kind, points, curve.steady)
    level = baselines.get(curve.baseline)
    if level is not None:
        label = f"{curve.baseline_label} {level:.1%}" if curve.percent else f"{curve.baseline_label} {level:.2f}"
        axes.axhline(level, color=COLORS["baseline"], linewidth=1.4, linestyle=(0, (5, 3)), label=label)
    _limits(axes, curve, series, level)
    axes.set_title(curve.title, loc="left", color=INK, fontsize=11, fontweight="bold", family=_FAMILY)
    axes.set_xlabel("step", color=INK, family=_FAMILY, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    percent = FuncFormatter(lambda value, _: f"{value:.0%}")
    axes.yaxis.set_major_formatter(percent if curve.percent else FuncFormatter(_tick))
    axes.legend(  # beside the title, where no curve can be; loc="best" also takes a second on long curves
        frameon=False,
        labelcolor=INK,
        prop={"family": _FAMILY, "size": 8},
        loc="lower right",
        bbox_to_anchor=(1.0, 0.99),
        ncols=len(series) + (level is not None),
        handlelength=1.4,
        columnspacing=1.0,
        borderaxespad=0.0,
    )
    _save(figure, path)
    return True


def _draw_series(axes: Axes, kind: str, points: np.ndarray, steady: bool) -> None:
    steps, values = points[:, 0], points[:, 1]
    color = COLORS[kind]
    if kind != "train":
        axes.plot(steps, values, color=color, linewidth=1.6, marker="o", markersize=3.5, label=kind, zorder=3)
    elif steady or len(steps) < 30:
        axes.plot(steps, values, color=color, linewidth=1.6, marker="o" if len(steps) < 3 else "", label=kind)
    else:
        axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.3)
        axes.plot(steps, smooth(values), color=color, linewidth=1.6, label=kind)


def smooth(values: np.ndarray, share: float = 0.04) -> np.ndarray:
    """Running mean over `share` of the points at most. Centred; towards the start the window shrinks, so that
    a steep beginning is not flattened. Non-finite values are left out of the means."""
    half = max(1, round(len(values) * share / 2))
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(values))
    reach = np.minimum(index, half)
    low, high = index - reach, np.minimum(index + reach + 1, len(values))
    total, count = sums[high] - sums[low], counts[high] - counts[low]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _tick(value: float, _: int) -> str:
    """16000 as 16k, 0.00176 as 1.76e-3, anything in between as it is."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e3:
        return f"{value / 1e3:g}k"
    if 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"


def _limits(axes: Axes, curve: Curve, series: Mapping[str, np.ndarray], level: float | None) -> None:
    """Axes that hold everything but a few wild values, and the baseline."""
    values = np.concatenate([points[:, 1] for points in series.values()])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, [0.5, 99.5]) if len(values) >= 200 else (values.min(), values.max())
    if level is not None:
        low, high = min(low, level), max(high, level)
    if not curve.percent and low > 0 and (curve.steady or curve.file == "throughput.png"):
        low = 0.0
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    top = high + margin
    bottom = 0.0 if low == 0.0 else low - margin
    axes.set_ylim(max(bottom, 0.0) if low >= 0 else bottom, min(top, 1.02) if curve.percent else top)


# --------------------------------------------------------------------------------------- confusion matrix


def draw_confusion(labels: Sequence[str], confusion: np.ndarray, path: Path) -> None:
    """Rows are the true classes, columns the predicted ones; colour is the share of the row, the number in a
    cell the count (left out beyond 25 classes)."""
    classes = len(labels)
    side = min(max(2.6, 0.42 * classes + 1.2), 13.0)
    figure, axes = _figure(side + 1.0, side)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    paint = np.zeros((classes, classes, 4))
    paint[..., :3] = (0.18, 0.44, 0.86)
    # Opacity instead of a colour map, so that empty cells take the page's own colour; it climbs fast around
    # 0.3, because neither grey nor white numbers can be read on a middling blue.
    paint[..., 3] = np.interp(shares, (0.0, 0.2, 0.35, 1.0), (0.03, 0.22, 0.8, 1.0))
    axes.imshow(paint, interpolation="nearest", aspect="equal")
    size = 8.5 if classes <= 25 else max(3.5, 200 / classes)
    short = [label if len(label) <= 22 else label[:21] + "…" for label in labels]
    axes.set_xticks(range(classes), short, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(classes), short, fontsize=size)
    axes.set_xlabel("predicted", color=INK, fontsize=9)
    axes.set_ylabel("true", color=INK, fontsize=9)
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if classes <= 25:
        for row in range(classes):
            for column in range(classes):
                if confusion[row, column]:
                    color = "white" if shares[row, column] > 0.28 else INK
                    weight = "bold" if row == column else "normal"
                    text = format_count(float(confusion[row, column]))
                    axes.text(
                        column,
                        row,
                        text,
                        ha="center",
                        va="center",
                        color=color,
                        fontsize=7.5,
                        fontweight=weight,
                    )
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.grid(True, color=INK, alpha=0.22, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8.5, length=3)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_alpha(0.5)
        spine.set_visible(side in ("left", "bottom"))


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, transparent=True)


# --------------------------------------------------------------------------------------- stacked bars


@dataclass(frozen=True)
class Bar:
    """One horizontal bar made of parts."""

    label: str  # what is measured, with its unit
    parts: Mapping[str, float]  # name to value, from the left
    limit: float = 0.0  # drawn as a line across; 0 draws none
    limit_label: str = ""  # what stands beside the line


def draw_bars(title: str, bars: Sequence[Bar], path: Path) -> None:
    """Bars one below the other, each with a scale and a legend of its own, to `path`."""
    figure = Figure(figsize=(7.2, 1.5 * len(bars) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11, fontweight="bold", family=_FAMILY)
    for row, bar in enumerate(bars):
        axes = figure.add_subplot(len(bars), 1, row + 1)
        _style(axes)
        axes.spines["left"].set_visible(False)
        left = 0.0
        for color, (name, value) in zip((*COLORS.values(), INK), bar.parts.items(), strict=False):
            axes.barh([0], [value], left=left, height=0.6, color=color, label=f"{name} {value:,.3g}")
            left += value
        if bar.limit:
            axes.axvline(bar.limit, color=INK, linewidth=1.6, linestyle=(0, (5, 3)))
            axes.text(
                bar.limit, 0.5, f"{bar.limit_label} {bar.limit:,.3g} ", ha="right", va="top", color=INK, fontsize=8
            )
        axes.set_xlim(0, 1.06 * max(left, bar.limit) or 1.0)
        axes.set_ylim(-0.5, 0.5)
        axes.set_yticks([])
        axes.set_title(bar.label, loc="left", color=INK, fontsize=9, family=_FAMILY)
        axes.legend(frameon=False, labelcolor=INK, prop={"family": _FAMILY, "size": 8}, loc="lower right",
                    bbox_to_anchor=(1.0, 0.99), ncols=len(bar.parts), handlelength=0.9, columnspacing=1.0,
                    borderaxespad=0.0)  # fmt: skip
    _save(figure, path)


# --------------------------------------------------------------------------------------- points


@dataclass(frozen=True)
class Panel:
    """Points of one quantity, side by side with others that share the vertical axis."""

    label: str  # what stands below
    places: Sequence[Any]  # numbers, or some of `words`
    log: bool = False
    words: Sequence[str] = ()  # each gets a place of its own, in this order
    whole: bool = False  # the numbers are whole


def draw_points(title: str, label: str, values: Sequence[float], weak: Sequence[bool], panels: Sequence[Panel],
                best: int, path: Path) -> None:  # fmt: skip
    """A panel for each of `panels` with a point at (its place, value) to `path`, three a row. Points of `weak` are
    hollow; `best` is the number of the point that is marked in all."""
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.4 * columns + 0.4, 2.7 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11, fontweight="bold", family=_FAMILY)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        _style(axes)
        places = [panel.words.index(place) for place in panel.places] if panel.words else list(panel.places)
        if panel.words:
            axes.set_xticks(range(len(panel.words)), [w if len(w) <= 16 else w[:15] + "…" for w in panel.words])
            axes.set_xlim(-0.5, len(panel.words) - 0.5)
        elif panel.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=panel.whole))
        if not panel.words:
            axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        for hollow in (False, True):
            shown = [(p, v) for p, v, is_weak in zip(places, values, weak, strict=True) if is_weak == hollow]
            face = "none" if hollow else COLORS["train"]
            axes.scatter([place for place, _ in shown], [value for _, value in shown], s=22, facecolors=face,
                         edgecolors=COLORS["train"], linewidths=1.1, zorder=3)  # fmt: skip
        axes.scatter([places[best]], [values[best]], s=95, facecolors="none", edgecolors=COLORS["validation"],
                     linewidths=1.8, zorder=4)  # fmt: skip
        axes.set_xlabel(panel.label, color=INK, fontsize=9, family=_FAMILY)
        if number % columns == 0:
            axes.set_ylabel(label, color=INK, fontsize=9, family=_FAMILY)
    _save(figure, path)
