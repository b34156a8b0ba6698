"""Runs of several processes, over gloo on this machine: how they meet, what they refuse, and that they compute what one
process computes."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from albert_jax.cluster import agreement
from albert_jax.cluster.processes import ProcessConfig, _find, _roll_call, join
from albert_jax.engine.checkpoint import FOLDER, Checkpoints
from albert_jax.errors import AlbertError
from albert_jax.telemetry.records import read_metrics
from albert_jax.telemetry.throughput import Meter
from albert_jax.train import train
from benchmarks.mesh_equality import CASES, ONE, run
from tests.cluster.two_processes import CASE, HALF, STEPS, experiment
from tests.test_train import everything, records, wait_for

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def start(words: list[str], log: Path, **environment: str) -> subprocess.Popen:
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    with log.open("w") as out:
        return subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=out, stderr=out,
            env=os.environ | {"XLA_FLAGS": flags} | environment,
        )  # fmt: skip


def end(processes: list[subprocess.Popen], timeout: float = 240) -> list[int]:
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def place(corpus, tmp_path_factory):
    """The runs of one process, then of two; `codes` are the exit codes of the two."""
    place = tmp_path_factory.mktemp("processes")
    shutil.copytree(corpus, place / "corpus")
    train(experiment(place / "corpus", place / "rows", mesh=ONE), place / "one")
    shutil.copytree(place / "one", place / "half")
    for step in (2 * HALF, STEPS):
        shutil.rmtree(place / "half" / FOLDER / str(step))
    port = free_port()
    words = [["-m", "tests.cluster.two_processes", str(index), str(port), str(place)] for index in range(2)]
    processes = [start(words[index], place / f"log-{index}") for index in range(2)]
    wait_for(lambda: (place / "stopped" / FOLDER / "4").exists(), processes[0], 400)
    processes[1].send_signal(signal.SIGTERM)
    (place / "codes").write_text(json.dumps(end(processes)))
    return place


def told(path: Path) -> list[str]:
    return [path.with_name(f"{path.name}-{index}").read_text() for index in range(2)]


def same(workdir: Path, other: Path) -> None:
    """Every parameter and moment of the last step."""
    found, want = everything(workdir, STEPS), everything(other, STEPS)
    assert found.keys() == want.keys() and len(want) > 60
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_two_processes_do_what_one_does(place):
    losses, params = run(CASES["1 device"])
    for index in range(2):
        with np.load(place / f"case-{index}.npz") as found:
            np.testing.assert_allclose(found["losses"], losses, rtol=1e-5, err_msg=CASE)
            for number, leaf in enumerate(jax.tree.leaves(params)):
                np.testing.assert_allclose(found[str(number)], leaf, atol=1e-5)


def test_a_run_of_two_processes_is_that_of_one(place):
    two = [r for r in records(place / "stopped") if r["kind"] == "train"]
    one = [r for r in records(place / "one") if r["kind"] == "train"]
    assert len(one) == STEPS and len(two) >= 4
    for a, b in zip(two, one, strict=False):
        for name in set(b) - {"kind"}:
            assert a[name] == pytest.approx(b[name], rel=1e-5, abs=1e-6), (a["step"], name)


def test_an_evaluation_by_two_processes_is_that_of_one(place):
    found = json.loads((place / "half" / "evaluation-validation.json").read_text())
    last = [r for r in records(place / "one") if r["kind"] == "validation"][-1]
    assert found["examples"] == 20 and found["scores"]["mlm_loss"] == pytest.approx(last["mlm_loss"], rel=1e-5)


def test_a_checkpoint_of_one_process_goes_on_with_two_in_the_same_order(place):
    want = (place / "rows").read_text().splitlines()
    assert [line.split()[:2] for line in want] == [[str(n), str(row)] for n in range(STEPS) for row in range(8)]
    assert sorted("".join(told(place / "rows")).splitlines()) == sorted(want[HALF * 8 :])
    same(place / "half", place / "one")


def test_a_checkpoint_of_two_processes_goes_on_with_one(place, tmp_path):
    shutil.copytree(place / "half", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / FOLDER / str(STEPS))
    train(experiment(place / "corpus", tmp_path / "rows", mesh=ONE), tmp_path / "run")
    assert (tmp_path / "rows").read_text().splitlines() == (place / "rows").read_text().splitlines()[2 * HALF * 8 :]
    same(tmp_path / "run", place / "one")


def test_a_signal_to_one_process_stops_both_after_the_same_step(place):
    assert json.loads((place / "codes").read_text()) == [143, 143], "\n".join(told(place / "log"))
    step = Checkpoints(place / "stopped").steps[-1]
    events = [r["text"] for r in read_metrics(place / "stopped") if r["kind"] == "event"]
    assert 4 <= step < 4000 and f"stopped by a signal after step {step}; run the command again to continue" in events


def test_processes_with_different_experiments_name_the_field_and_both_values(place):
    for error in told(place / "other"):
        assert "different experiments: optim.peak_lr is 0.001 in process 0 (" in error
        assert ") and 0.002 in process 1 (" in error
    assert not (place / "other").exists()


def test_processes_that_are_fed_the_same_rows_are_stopped(place):
    for error in told(place / "undivided"):
        assert "processes 0 and 1 hold different rows of the batch and made the same examples" in error


def test_a_workdir_that_is_not_shared_is_refused(place):
    for index, error in enumerate(told(place / "shared")):
        assert "different workdirs: experiment.json exists is true in process 0" in error
        assert f"own-{index} must be one directory that all share" in error


def test_only_the_first_process_prints(place):
    # Two lines come from libraries: who is connected (threads cut into each other's words), and that a signal came.
    gloo = re.compile(r"\[Gloo\] Rank|is connected to|peer ranks\.|Expected number of connected peer ranks is :")
    said = [
        [line for line in gloo.sub("", log).splitlines() if re.search("[a-z]", line) and "SIGTERM caught" not in line]
        for log in told(place / "log")
    ]
    assert any("8 x cpu (data 2, fsdp 4) of 2 processes" in line for line in said[0])
    assert said[1] == []


def test_an_error_in_one_process_ends_the_other_and_is_named(place):
    port = free_port()
    words = ["-m", "albert_jax", "evaluate", "--processes.coordinator", f"127.0.0.1:{port}", "--processes.count", "2"]
    places = [place / "half", place / "nowhere"]
    processes = [
        start([*words, "--split", "validation", "--workdir", str(places[index])], place / f"failed-{index}",
              ALBERT_JAX_PROCESS_INDEX=str(index))
        for index in range(2)
    ]  # fmt: skip
    assert end(processes) == [2, 2]
    assert "error: another process failed, process 1 (" in told(place / "failed")[0]
    assert "nowhere is not a workdir" in told(place / "failed")[0]
    assert told(place / "failed")[1].count("error:") == 1


def test_a_process_alone_says_how_many_are_missing(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(AlbertError, match=r"1 of 2 processes joined within 0.5 s \(missing: 1\); start all"):
        join(ProcessConfig(address, 2, 0, 0.5))
    with pytest.raises(AlbertError, match="1 of 2 .*process 1 is here, process 0 does not answer at 127"):
        join(ProcessConfig(address, 2, 1, 0.5))
    words = ["-m", "albert_jax", "train", "--config", "configs/demo.py", "--workdir", str(tmp_path / "run")]
    said = {"COORDINATOR": address, "PROCESS_COUNT": "2", "PROCESS_INDEX": "0"}
    environment = {f"ALBERT_JAX_{name}": value for name, value in said.items()}
    lone = start([*words, "--processes.timeout-s", "1"], tmp_path / "log", **environment)
    assert end([lone]) == [2] and not (tmp_path / "run").exists()
    assert (tmp_path / "log").read_text().splitlines() == [
        "error: 1 of 2 processes joined within 1 s (missing: 1); start all workers with the same command"
    ]


def roll_call(*calls: tuple[int, int]) -> list[str]:
    """What processes of these (index, count) are told."""
    address, told = f"127.0.0.1:{free_port()}", [""] * len(calls)

    def call(place: int, index: int, count: int) -> None:
        import time

        try:
            _roll_call(address, count, index, time.monotonic() + 3, 3)
            told[place] = "go"
        except AlbertError as error:
            told[place] = str(error)

    threads = [threading.Thread(target=call, args=(place, *who)) for place, who in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_the_roll_call_is_told_to_all():
    assert roll_call((0, 3), (1, 3), (2, 3)) == ["go"] * 3
    assert (
        roll_call((0, 4), (1, 4), (3, 4))
        == ["3 of 4 processes joined within 3 s (missing: 2); start all workers with the same command"] * 3
    )
    assert "process 1 was told that there are 3 processes, process 0 that there are 2" in roll_call((0, 2), (1, 3))[1]


def test_what_is_given_must_be_complete_and_fit(monkeypatch):
    with pytest.raises(AlbertError, match="missing: processes.coordinator, processes.index"):
        join(ProcessConfig(count=2))
    with pytest.raises(AlbertError, match="processes.index is 2; with processes.count 2 it must be 0 to 1"):
        join(ProcessConfig("host:1", 2, 2))
    with pytest.raises(AlbertError, match="processes.coordinator is 'host'; give HOST:PORT"):
        join(ProcessConfig("host", 2, 1))
    join(ProcessConfig())  # a laptop is alone
    monkeypatch.setenv("ALBERT_JAX_PROCESS_COUNT", "two")
    with pytest.raises(AlbertError, match="ALBERT_JAX_PROCESS_COUNT is 'two'; it must be a whole number"):
        join(ProcessConfig())
    join(ProcessConfig(count=1))


def test_same_rows_must_be_the_same_examples():
    data, places = np.eye(3, 4, dtype=np.uint8), np.eye(3, 4, dtype=np.uint8)
    agreement.compare_rows(data, places)
    agreement.compare_rows(data[[0, 0, 1]], places[[0, 0, 1]])  # along `tensor`, two processes share their rows
    with pytest.raises(AlbertError, match="processes 0 and 2 hold different rows of the batch and made the same"):
        agreement.compare_rows(data[[0, 1, 0]], places)
    with pytest.raises(AlbertError, match="processes 1 and 2 hold the same rows of the batch and made different"):
        agreement.compare_rows(data, places[[0, 1, 1]])


def test_the_host_that_others_wait_for_is_found():
    step, usual = np.full(4, 1.0), np.array([0.1, 0.1, 0.12, 0.1])
    assert agreement.outliers(step, usual, usual) == []
    assert agreement.outliers(step, np.array([0.01, 0.01, 0.05, 0.01]), usual) == []  # many times, and nothing felt
    (found,) = agreement.outliers(step, np.array([0.1, 0.1, 0.1, 0.4]), usual)
    assert found == (3, "spends 0.4 s of every step outside its devices, 4.0 x the median; the others wait for it")
    (found,) = agreement.outliers(step, usual, np.array([0.1, 5.0, 0.1, 0.1]))
    assert found == (1, "spends 5 s of one step outside its devices, 50.0 x the median; the others wait for it")


def test_a_meter_tells_the_host_s_own_time_from_that_of_the_devices():
    now = 0.0

    def after(seconds: float) -> None:
        nonlocal now
        now += seconds

    meter = Meter(tokens_per_step=100, flops_per_token=2.0, clock=lambda: now)
    meter.lap(1)
    for data in (1.0, 3.0):
        with meter.waiting():
            after(data)
        with meter.devices():
            after(5.0)
        after(0.5)
    with meter.pause():
        after(40.0)
    lap = meter.lap(3)
    assert lap["seconds_per_step"] == 7.5 and lap["model_flops_per_second"] == pytest.approx(200 / 7.5)
    assert lap["data_wait_share"] == pytest.approx(4 / 15) and "peak_share" not in lap
    assert meter.host_seconds == {"mean": 2.5, "longest": 3.5}


def test_slurm_tells_all_but_one_task_alone_is_no_run_of_several(monkeypatch):
    told = {"JOB_ID": "5000", "STEP_NODELIST": "node[007-009]", "NTASKS": "12", "PROCID": "5", "LOCALID": "1"}
    for name, value in told.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert _find(ProcessConfig()) == ("node007:62344", 12, 5, [1])
    assert _find(ProcessConfig("other:1", index=3)) == ("other:1", 12, 3, [1])
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert _find(ProcessConfig()) is None
