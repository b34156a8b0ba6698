"""Submit, preempt, resubmit, finish, with fake clouds whose workers run a stand-in for train; one drill runs train."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from albert_jax.telemetry.records import read_metrics
from tests.launch.drill import FINAL, GKE, ROOT, SLURM, TPU, Drill


@pytest.fixture
def drill(tmp_path):
    drill = Drill(tmp_path)
    yield drill
    (drill.cloud / "hold").unlink(missing_ok=True)  # what a failed test left waiting ends


def starts(drill: Drill) -> int:
    return sum("worker.sh start" in line for line in drill.commands())


def creations(drill: Drill) -> int:
    return sum("queued-resources create" in line for line in drill.commands())


def test_preempted_slice_is_asked_for_again_and_the_run_continues(drill):
    drill.befalls("preempt", "preempt")
    status, log = drill.launch("tpu_vm.sh", TPU, "--spot")
    assert status == 0, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert re.findall(r"step (\d)$", log, flags=re.M) == list("123456789")  # none lost, none repeated
    assert (creations(drill), starts(drill)) == (3, 3)
    assert log.count("pod is WAITING_FOR_RESOURCES") == 3 and log.count("deleting what is left") == 2
    assert log.rstrip().endswith("pod is still there, and costs: --delete ends it")


def test_a_worker_told_to_stop_starts_again_on_the_same_slice(drill):
    drill.befalls("stop")
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert (creations(drill), starts(drill)) == (1, 2)
    assert "with status 143" in log and "infrastructure failure; retry 1 of 20 in 0 s" in log


def test_a_lost_connection_finds_the_run_again(drill):
    drill.befalls("drop")
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert (creations(drill), starts(drill)) == (1, 1)
    assert "it runs; following it" in log


def test_a_run_started_on_some_workers_only_is_started_anew(drill):
    drill.befalls("half")
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert (creations(drill), starts(drill)) == (1, 2) and "it runs; following it" not in log
    assert "process 0: 3 of 9 steps done" in log  # what still ran was told to stop, and saved


def test_started_on_some_workers_only_it_is_started_anew_by_the_same_command_later(drill):
    drill.befalls("half")
    status, log = drill.launch("tpu_vm.sh", TPU, "--retries", "0")
    assert status == 1 and log.endswith("launch: 0 retries in a row failed; the same command goes on\n"), log
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0 and "it runs; following it" not in log, log
    assert drill.state() == {"step": 9, "value": FINAL} and starts(drill) == 2


def test_ctrl_c_while_following_leaves_the_run_and_the_terminal_alone(drill):
    drill.befalls("hold")
    # Tests that run in the background inherit an ignored SIGINT, which no shell can trap.
    heeding = "import os, signal as s, sys; s.signal(s.SIGINT, s.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", heeding, "launch/tpu_vm.sh", *TPU.split()]
    launcher = subprocess.Popen(
        command, cwd=drill.code, env=drill.environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not all((drill.cloud / name).exists() for name in ("reached", "following")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(launcher.pid, signal.SIGINT)
    log, _ = launcher.communicate(timeout=20)  # the end of the log: no child of the launcher still writes there
    assert launcher.returncode == 130, log
    assert log.endswith(
        "launch: left; what is there goes on and costs: the same command follows it, --delete ends it\n"
    )
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0 and "it runs; following it" in log, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert (creations(drill), starts(drill)) == (1, 1)


@pytest.mark.parametrize(
    ("act", "failures", "created", "started", "retries"),
    [
        ("run", [("scp", 1), ("worker.sh start", 255)], 1, 2, 2),
        ("run", [("describe", 0), ("describe", 0), ("describe", 1)], 1, 1, 1),
        ("run", [("worker.sh finish", 255), ("worker.sh live", 255)], 1, 2, 1),
        ("preempt", [("delete", 1)], 2, 2, 2),
    ],
)
def test_a_gcloud_that_fails_in_the_middle_is_tried_again(drill, act, failures, created, started, retries):
    drill.befalls(act)
    drill.fails(*failures)
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert (creations(drill), starts(drill)) == (created, started)
    assert log.count("launch: infrastructure failure; retry") == retries


def test_a_slice_that_could_not_be_deleted_is_no_success(drill):
    drill.fails(("delete", 1))
    status, log = drill.launch("tpu_vm.sh", TPU, "--delete-when-done")
    assert status == 1 and drill.state()["step"] == 9
    assert log.endswith("launch: done\nERROR: (gcloud.compute.tpus) made up: delete\n"
                        "launch: pod is still there, and costs: --delete ends it\n"), log  # fmt: skip


def test_the_same_command_later_continues_and_is_done(drill):
    assert drill.launch("tpu_vm.sh", TPU)[0] == 0
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0 and "9 of 9 steps done" in log
    assert creations(drill) == 1


def test_slices_are_one_request_and_every_worker_runs(drill):
    status, log = drill.launch("tpu_vm.sh", TPU, "--slices", "2", "--delete-when-done")
    assert status == 0, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert any("--node-count=2 --node-prefix=pod" in line for line in drill.commands())
    assert starts(drill) == 2  # one for each slice
    assert not list(drill.cloud.glob("queued/*")) and not list(drill.cloud.glob("nodes/*"))


@pytest.mark.parametrize("status", [1, 2])
def test_a_mistake_is_not_tried_again(drill, status):
    ended, log = drill.launch("tpu_vm.sh", TPU, "--", "--fail", str(status))
    assert ended == status, log
    assert starts(drill) == 1
    assert "error: configs/bad.py, field optim: made up for this test" in log
    assert "so it is not tried again" in log


def test_the_first_worker_to_fall_tells_why(drill):
    """Worker 1 has the mistake; worker 0, which is followed, loses its peer and ends with 134."""
    ended, log = drill.launch("tpu_vm.sh", TPU, "--", "--fail", "2", "--worker", "1")
    assert ended == 2, log
    assert starts(drill) == 1
    assert "pod-w-1 ended first, with status 2" in log
    assert "pod-w-1: error: configs/bad.py, field optim: made up for this test" in log


def test_retries_are_bounded(drill):
    ended, log = drill.launch("tpu_vm.sh", TPU, "--retries", "1", "--", "--fail", "137")
    assert ended == 1, log
    assert starts(drill) == 2
    assert "1 retries in a row failed; the same command goes on" in log


def test_the_mistake_of_a_far_worker_is_not_tried_again(tmp_path):
    drill = Drill(tmp_path, {"FAKE_WORKERS": "4"})
    ended, log = drill.launch("tpu_vm.sh", TPU, "--", "--fail", "1", "--worker", "3")
    assert ended == 1 and starts(drill) == 1, log
    assert "pod-w-3 ended first, with status 1" in log


def test_a_quota_that_is_used_up_is_the_users_to_mend(drill):
    (drill.cloud / "no-quota").touch()
    ended, log = drill.launch("tpu_vm.sh", TPU)
    assert ended == 2 and log.endswith("error: gcloud did not take the request for pod, see above\n"), log
    assert creations(drill) == 1


def test_a_request_that_fails_at_first_is_the_users_to_mend(drill):
    drill.requests("FAILED")
    ended, log = drill.launch("tpu_vm.sh", TPU)
    assert ended == 2 and "error: the request for pod failed, see above; --delete it before asking again" in log, log
    assert creations(drill) == 1


def test_preempted_before_it_was_ready_it_is_asked_for_again(drill):
    drill.requests("SUSPENDED", "FAILED", "ACTIVE")
    ended, log = drill.launch("tpu_vm.sh", TPU, "--spot")
    assert ended == 0, log
    assert drill.state() == {"step": 9, "value": FINAL} and creations(drill) == 3
    assert "retry 2 of 20" in log and "retry 3" not in log


def test_requests_that_go_on_failing_are_bounded(drill):
    drill.requests(*["SUSPENDED"] * 9)
    ended, log = drill.launch("tpu_vm.sh", TPU, "--retries", "2")
    assert ended == 1 and creations(drill) == 3, log
    assert log.endswith("launch: 2 retries in a row failed; the same command goes on\n")


def test_a_gcloud_that_cannot_tell_creates_nothing(drill):
    (drill.cloud / "offline").touch()
    ended, log = drill.launch("tpu_vm.sh", TPU)
    assert ended == 2 and log.count("problem refreshing your current auth tokens") == 1, log
    assert log.endswith("error: gcloud cannot tell what there is, see above\n")
    assert creations(drill) == 0


def test_delete_takes_the_slice_away_and_says_when_there_is_none(drill):
    assert drill.launch("tpu_vm.sh", TPU)[0] == 0
    words = "--name pod --zone us-west4-a --delete"
    assert drill.launch("tpu_vm.sh", words)[0] == 0
    assert not list(drill.cloud.glob("queued/*")) and not list(drill.cloud.glob("machines/*"))
    ended, log = drill.launch("tpu_vm.sh", words)
    assert (ended, log) == (2, "error: there is no queued resource or TPU VM named pod in us-west4-a\n")


def test_an_existing_tpu_vm_is_used_as_it_is(drill):
    create = "cloud.write('nodes/pod', {'state': 'READY'}); "
    create += "[cloud.make_environment(cloud.CLOUD / 'machines/pod' / worker / 'albert_jax', 'tpu') for worker in '01']"
    drill.python(create)
    status, log = drill.launch("tpu_vm.sh", TPU)
    assert status == 0, log
    assert creations(drill) == 0 and drill.state() == {"step": 9, "value": FINAL}


def test_the_cluster_restarts_pods_told_to_stop(drill):
    drill.befalls("preempt", "preempt")
    status, log = drill.launch("gke_xpk.sh", GKE)
    assert status == 0 and log.endswith("launch: done\n"), log
    pods = (drill.cloud / "pods.log").read_text()
    assert drill.state() == {"step": 9, "value": FINAL}
    assert re.findall(r"pods ended with (.*)", pods) == ["[143, 143]", "[143, 143]", "[0, 0]"]


@pytest.mark.parametrize(("words", "ends"), [("--fail 2", 1), ("--fail 1", 1), ("--fail 137", 3)])
def test_the_cluster_does_not_restart_a_mistake(drill, words, ends):
    status, log = drill.launch("gke_xpk.sh", GKE, "--retries", "2", "--", *words.split())
    assert status == 125 and "launch: pod failed: the config, the data or the code, or more than 2 restarts" in log
    assert (drill.cloud / "pods.log").read_text().count("pods ended with") == ends


def test_a_workload_that_is_there_is_waited_for_and_deleted(drill):
    assert drill.launch("gke_xpk.sh", GKE)[0] == 0
    status, log = drill.launch("gke_xpk.sh", GKE)
    assert status == 0 and "pod is there already" in log
    assert sum("workload create" in line for line in drill.commands()) == 1
    assert drill.launch("gke_xpk.sh", "--name pod --cluster c --zone us-west4-a --delete")[0] == 0
    assert not list(drill.cloud.glob("workloads/*"))


def test_a_job_is_requeued_at_its_limit_and_after_preemption(drill):
    drill.befalls("stop", "preempt")
    job, log = drill.slurm()
    assert job == {"state": "COMPLETED", "status": 0, "starts": 3}, log
    assert drill.state() == {"step": 9, "value": FINAL}
    assert len(re.findall(r"process \d ended first, with status 143", log)) == 2
    assert log.count("launch: infrastructure failure; requeued") == 1  # after the limit; preempted, SLURM does it


def test_a_cancelled_job_is_not_requeued(drill):
    drill.befalls("cancel")
    job, log = drill.slurm()
    assert job == {"state": "FAILED", "status": 143, "starts": 1}, log
    assert drill.state()["step"] == 3


@pytest.mark.parametrize(
    ("words", "status", "starts"), [("--fail 2 --worker 3", 2, 1), ("--fail 1", 1, 1), ("--fail 137", 137, 3)]
)
def test_a_job_with_a_mistake_is_not_requeued(drill, words, status, starts):
    job, log = drill.slurm("--retries", "2", "--", *words.split())
    assert job == {"state": "FAILED", "status": status, "starts": starts}, log


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--zone night", "error: unknown --zone night; partitions: gpu long\n"),
        ("--type h900:8", "error: unknown --type h900:8; GPUs here: (null) gpu:h100:8(S:0-1)\n"),
    ],
)
def test_a_partition_or_gpu_the_cluster_has_not_is_refused(drill, words, said):
    assert drill.launch("slurm.sh", f"{SLURM} {words}") == (2, said)


@pytest.mark.slow
def test_train_itself_preempted_and_resubmitted_ends_like_an_uninterrupted_run(corpus, tmp_path):
    """train itself on the tiny experiment: the code is shipped, SIGTERM saves, the same command finishes."""
    config = f"""
from pathlib import Path
from tests import tiny

def experiment():
    return tiny.experiment(Path({str(corpus)!r}), steps=60)
"""
    python = tmp_path / "python"
    # One device, unlike the tests.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    python.write_text(f"#!/usr/bin/env bash\nXLA_FLAGS='{flags}' PYTHONPATH={ROOT} exec {sys.executable} \"$@\"\n")
    python.chmod(0o755)
    metrics = {}
    for name, act in (("whole", "run"), ("preempted", "preempt")):
        workdir = tmp_path / name / "run"
        (tmp_path / name).mkdir()
        reached = workdir / "checkpoints" / "4"
        drill = Drill(tmp_path / name, {"FAKE_PYTHON": str(python), "FAKE_WORKERS": "1", "FAKE_REACHED": str(reached)})
        (drill.code / "configs" / "drill.py").write_text(config)
        drill.befalls(act)
        words = (
            f"--name pod --type v5litepod-8 --zone us-west4-a --config configs/drill.py --workdir {workdir} --backoff 0"
        )
        status, log = drill.launch("tpu_vm.sh", words)
        assert status == 0, log
        metrics[name] = [record for record in read_metrics(workdir) if record["kind"] == "validation"]
    assert "stopped by a signal after step" in log and "continuing at step" in log
    assert starts(drill) == 2
    assert metrics["whole"][-1]["step"] == 60
    assert metrics["preempted"] == metrics["whole"]
