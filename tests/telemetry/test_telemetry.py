"""metrics.jsonl survives kills, resumes, NaN and its optional companions."""

import json
import math
import os
import signal
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from albert_jax.errors import AlbertError
from albert_jax.fields import check
from albert_jax.telemetry import run
from albert_jax.telemetry.progress import Progress
from albert_jax.telemetry.records import METRICS, read_metrics, to_numbers
from albert_jax.telemetry.run import NullTelemetry, Telemetry, TelemetryConfig
from albert_jax.telemetry.watch import CollapseWatch, WatchConfig

QUIET = TelemetryConfig(tensorboard=False)


def make(workdir, start_step=None, config=QUIET, total=100, **rest):
    """A Telemetry and the console that hears what it says."""
    console = Console(record=True, file=open(os.devnull, "w"), width=400)  # noqa: SIM115
    progress = Progress(total, start_step or 0, console=console)
    return Telemetry(workdir, config, total, start_step, progress=progress, **rest), console


def strict(workdir):
    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (workdir / METRICS).read_text().splitlines()]


def test_records_of_all_kinds_of_numbers(tmp_path):
    log, _ = make(tmp_path / "new" / "run", 0)
    scalars = {"loss": jnp.float32(0.1), "order_loss": np.float64(0.25), "grad_norm": jnp.ones((1, 1))}
    log.log(jnp.int32(5), "train", {**scalars, "count": np.int64(3), "plain": 2.5, "absent": None})
    log.event(6, "checkpoint written")
    assert strict(tmp_path / "new" / "run") == [  # before close: every line is flushed
        {
            "step": 5,
            "kind": "train",
            "loss": 0.1,
            "order_loss": 0.25,
            "grad_norm": 1.0,
            "count": 3,
            "plain": 2.5,
        },
        {"step": 6, "kind": "event", "text": "checkpoint written"},
    ]
    log.close()


def test_float32_is_short_and_exact():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    read = [to_numbers({"x": value})["x"] for value in values]
    assert (np.array(read, np.float32) == values).all()
    assert max(len(repr(value)) for value in read) <= 14


def test_more_than_one_element_is_an_error(tmp_path):
    log, _ = make(tmp_path)
    with pytest.raises(ValueError, match=r"'loss' has shape \(2,\)"):
        log.log(1, "train", {"loss": np.zeros(2)})


def test_not_finite_is_null_and_comes_back(tmp_path):
    log, _ = make(tmp_path)
    log.log(1, "train", {"loss": jnp.nan, "grad_norm": np.float32(np.inf), "x": -math.inf, "y": 1.0})
    (record,) = strict(tmp_path)
    assert (record["loss"], record["grad_norm"], record["x"], record["y"]) == (None, None, None, 1.0)
    assert record["nonfinite"] == {"loss": "nan", "grad_norm": "inf", "x": "-inf"}
    (back,) = read_metrics(tmp_path)
    assert math.isnan(back["loss"]) and back["grad_norm"] == math.inf and back["x"] == -math.inf
    assert "nonfinite" not in back


def train(workdir, start, stop, **rest):
    log, console = make(workdir, start, **rest)
    with log:
        for step in range(start + 1, stop + 1):
            log.log(step, "train", {"loss": 1 / step})
            if step % 5 == 0:
                log.log(step, "validation", {"loss": 2 / step})
    return console


def test_log_monotone_after_resume(tmp_path):
    train(tmp_path / "straight", 0, 20)
    train(tmp_path / "resumed", 0, 17)
    train(tmp_path / "resumed", 10, 20)
    assert (tmp_path / "resumed" / METRICS).read_bytes() == (tmp_path / "straight" / METRICS).read_bytes()
    assert [path.name for path in (tmp_path / "resumed").iterdir()] == [METRICS]


def test_fresh_start_drops_all_and_none_drops_nothing(tmp_path):
    train(tmp_path, 0, 7)
    log, _ = make(tmp_path, None)
    log.log(5, "test", {"loss": 3.0})
    log.close()
    assert len(read_metrics(tmp_path)) == 9
    train(tmp_path, 0, 2)
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]


def test_repeated_record_of_a_step_replaces_the_first(tmp_path):
    train(tmp_path, 0, 10)
    log, _ = make(tmp_path, 10)
    log.log(10, "validation", {"loss": 9.0})  # the kill came between checkpoint and evaluation, or after both
    log.close()
    assert [r["loss"] for r in read_metrics(tmp_path) if r["kind"] == "validation"] == [0.4, 9.0]


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_half_written_last_line(tmp_path, cut):
    train(tmp_path, 0, 4)
    path = tmp_path / METRICS
    path.write_bytes(path.read_bytes()[:-cut])
    kept = 4 if cut == 1 else 3  # only the newline is missing: the record is whole
    assert [record["step"] for record in read_metrics(tmp_path)] == list(range(1, kept + 1))
    train(tmp_path, 4, 6)
    assert [r["step"] for r in strict(tmp_path) if r["kind"] == "train"] == [*range(1, kept + 1), 5, 6]


def test_broken_line_in_the_middle_is_named(tmp_path):
    train(tmp_path, 0, 3)
    path = tmp_path / METRICS
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{oops", *lines[1:]]) + "\n")
    with pytest.raises(AlbertError, match=r"metrics\.jsonl, line 2: .*remove the line"):
        read_metrics(tmp_path)


def test_killed_process_leaves_whole_lines(tmp_path):
    code = (
        "import sys\nfrom albert_jax.telemetry.run import Telemetry, TelemetryConfig\n"
        "log = Telemetry(sys.argv[1], TelemetryConfig(tensorboard=False), 10**9, 0)\n"
        "for step in range(10**9):\n    log.log(step, 'train', {'loss': 0.5})\n"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout and process.stdout.readline().startswith(b"train 0/")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    steps = [record["step"] for record in read_metrics(tmp_path)]
    assert steps == list(range(len(steps))) and steps


def test_disabled_does_nothing_and_touches_no_value(tmp_path):
    log = TelemetryConfig().build(tmp_path / "run", 10, 0, enabled=False)
    log.log(1, "train", {"loss": object()})
    log.event(1, "text")
    log.tick(1)
    log.say("text")
    log.close()
    assert not (tmp_path / "run").exists()


def test_a_silent_telemetry_has_every_method():
    """One that it lacked would run in a process that may not write."""
    assert {name for name in vars(Telemetry) if not name.startswith("_")} <= set(vars(NullTelemetry))


def test_unwritable_workdir_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AlbertError, match=r"cannot be written \(.*\); free space or choose another --workdir"):
        Telemetry(tmp_path / "file" / "run", QUIET, 10)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk_is_one_clear_line(tmp_path):
    log, _ = make(tmp_path)
    log._metrics._file = open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(AlbertError, match=r"No space left on device"):
        log.log(1, "train", {"loss": 1.0})


def test_watch_speaks_through_events(tmp_path):
    watch = CollapseWatch(WatchConfig(grace_steps=5, order_grace_steps=50, window=4), 6.0)
    log, console = make(tmp_path, 0, watch=watch)
    for step in range(1, 20):
        log.log(step, "train", {"mlm_loss": 6.0, "order_loss": 0.69})
        log.log(step, "validation", {"mlm_loss": math.nan})  # only training records are judged
    events = [record for record in read_metrics(tmp_path) if record["kind"] == "event"]
    assert [event["step"] for event in events] == [9]
    assert events[0]["text"] in console.export_text()


# -- companions ---------------------------------------------------------------------------------------


def test_tensorboard_files_can_be_read_back(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX import proto

    train(tmp_path, 0, 3, config=TelemetryConfig())
    train(tmp_path, 2, 4, config=TelemetryConfig())
    (first,) = (tmp_path / "tensorboard").glob("*.from-0")
    (second,) = (tmp_path / "tensorboard").glob("*.from-2")

    def events(path):
        data, found = path.read_bytes(), []
        while data:  # length, its checksum, the event, its checksum
            length = int.from_bytes(data[:8], "little")
            found.append(proto.event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
        return found

    scalars = [(e.step, v.tag, v.simple_value) for e in events(first) for v in e.summary.value]
    assert scalars == [(s, "train/loss", pytest.approx(1 / s)) for s in (1, 2, 3)]
    purges = [event.step for event in events(second) if event.HasField("session_log")]
    assert purges == [3]  # TensorBoard forgets what the first attempt logged from step 3 on


def test_absent_packages_are_mentioned_once(tmp_path, monkeypatch):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(run, "_REPORTED_ABSENT", set())
    config = TelemetryConfig(tensorboard=True, wandb=True)
    messages = train(tmp_path, 0, 3, config=config).export_text()
    assert messages.count("TensorBoard is off: the tensorboardX package is not installed") == 1
    assert messages.count("W&B is off: the wandb package is not installed") == 1
    assert "is off" not in train(tmp_path, 0, 3, config=config).export_text()
    assert len(read_metrics(tmp_path)) == 3


def test_failing_companions_never_stop_training(tmp_path, monkeypatch):
    class Broken:
        def __init__(self, *arguments):
            self.calls = 0

        def write(self, step, kind, scalars):
            if step >= 3:
                raise OSError("disk quota")

        def close(self):
            raise AssertionError("a dropped sink is not closed again")

    def refuse(*arguments):
        raise RuntimeError("no network")

    monkeypatch.setattr(run, "TensorBoard", Broken)
    monkeypatch.setattr(run, "WandB", refuse)
    messages = train(tmp_path, 0, 10, config=TelemetryConfig(wandb=True)).export_text()
    assert "W&B is off: RuntimeError: no network" in messages
    assert messages.count("TensorBoard is off from here on: OSError: disk quota") == 1
    assert [r["step"] for r in read_metrics(tmp_path) if r["kind"] == "train"] == list(range(1, 11))


def test_wandb_run_is_found_again_after_a_resume(tmp_path, monkeypatch):
    """Against a recorder in the place of the package, which needs an account and a server."""
    calls = []

    class Run:
        def log(self, values, step):
            calls.append((step, values))

        def finish(self):
            calls.append("finish")

    package = types.ModuleType("wandb")
    package.init = lambda **options: (calls.append(options), Run())[1]
    package.__spec__ = types.SimpleNamespace(name="wandb")
    monkeypatch.setitem(sys.modules, "wandb", package)
    config = TelemetryConfig(tensorboard=False, wandb=True, wandb_project="p")
    train(tmp_path, 0, 2, config=config, experiment={"seed": 1})
    train(tmp_path, 1, 2, config=config, experiment={"seed": 1})
    first, second = (call for call in calls if isinstance(call, dict))
    assert first == second and first["resume"] == "allow" and first["config"] == {"seed": 1}
    assert calls.count("finish") == 2 and (2, {"train/loss": 0.5}) in calls


def test_profile_window(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(run.jax.profiler, "start_trace", lambda path: calls.append(("start", path)))
    monkeypatch.setattr(run.jax.profiler, "stop_trace", lambda: calls.append("stop"))
    log, _ = make(tmp_path, config=TelemetryConfig(tensorboard=False, profile_from=3, profile_steps=2))
    at = {}
    for step in range(1, 10):
        log.tick(step)
        at[step] = len(calls)
    assert calls == [("start", str(tmp_path / "profile")), "stop"]
    assert (at[2], at[3], at[4], at[5]) == (0, 1, 1, 2)


def test_profile_open_at_the_end_is_closed(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(run.jax.profiler, "start_trace", lambda path: calls.append("start"))
    monkeypatch.setattr(run.jax.profiler, "stop_trace", lambda: calls.append("stop"))
    log, _ = make(tmp_path, config=TelemetryConfig(tensorboard=False, profile_from=3, profile_steps=50))
    log.tick(3)
    log.close()
    assert calls == ["start", "stop"]


def test_configurations_know_their_ranges():
    for config in (TelemetryConfig(log_every=0), TelemetryConfig(profile_steps=0), WatchConfig(window=0)):
        with pytest.raises(AlbertError, match="must be at least 1"):
            check(config)
    for config in (TelemetryConfig(plain_seconds=-1.0), TelemetryConfig(profile_from=-1), WatchConfig(grace_steps=-1)):
        with pytest.raises(AlbertError, match="must not be negative"):
            check(config)


def test_import_starts_no_device():
    code = (
        "import sys\nfrom albert_jax.telemetry import report, run, throughput, watch\n"
        "from jax._src import xla_bridge\nassert not xla_bridge.backends_are_initialized()\n"
        "assert not {'matplotlib', 'jinja2', 'tensorboardX', 'wandb', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
