"""The product itself: the demo from nothing, and that pretraining pays. Minutes: `launch/test.sh -m slow`."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def scores(workdir: Path) -> dict[str, float]:
    return json.loads((workdir / "evaluation-test.json").read_text(encoding="utf-8"))["scores"]


def check(out: Path) -> None:
    """What the demo's table must show, read off the files behind it."""
    record = json.loads((out / "pretrain" / "evaluation-test.json").read_text(encoding="utf-8"))
    assert record["scores"]["mlm_accuracy"] > 2 * record["baselines"]["mlm_accuracy"]
    assert record["scores"]["mlm_loss"] < record["baselines"]["mlm_loss"] - 0.5
    assert record["scores"]["order_accuracy"] > 0.5
    with_it = [scores(out / "pretrained" / f"seed-{seed}")["accuracy"] for seed in range(3)]
    without = [scores(out / "scratch" / f"seed-{seed}")["accuracy"] for seed in range(3)]
    assert min(with_it) > max(without) + 0.05, (with_it, without)
    assert (out / "pretrain" / "report" / "index.html").exists()
    assert (out / "pretrained" / "seed-0" / "report" / "confusion-test.png").exists()


@pytest.mark.slow
def test_the_demo_runs_and_pretraining_pays(tmp_path):
    subprocess.run([ROOT / "launch" / "demo.sh", tmp_path / "demo"], check=True, timeout=1800)
    check(tmp_path / "demo")
