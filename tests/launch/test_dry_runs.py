"""The launch scripts read, dry and refused: nothing here runs a command of a cloud."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.launch.dry_runs import COMMANDS, GOLDEN, NO_CLOUD, ROOT, dry_run

TPU = "--name pod --type v5litepod-16 --zone us-west4-a --config configs/pretrain_base.py --workdir gs://b/run"
SLURM = "--name a --type h100:8 --config configs/pretrain_base.py --workdir runs/a"


def launch(words: str, **variables: str) -> subprocess.CompletedProcess:
    command = shlex.split(f"launch/{words}")
    return subprocess.run(command, cwd=ROOT, env=NO_CLOUD | variables, capture_output=True, text=True, timeout=20)


def test_shellcheck_finds_nothing():
    scripts = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "launch").glob("*.sh"))]
    assert "launch/tpu_vm.sh" in scripts
    done = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", "--external-sources", *scripts],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_dry_run_prints_what_is_stored(name):
    stored = (GOLDEN / f"{name}.txt").read_text()
    assert dry_run(name) == stored, "if the change is meant: python -m tests.launch.dry_runs"


def test_where_a_bucket_is_asked_for_what_reads_it_is_installed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras["gcs"]) <= set(extras["tpu"])  # which the others install
    assert launch(f"slurm.sh {SLURM} --dry-run").stdout.startswith("launch/setup.sh gpu\n")
    assert launch(f"slurm.sh {SLURM} --workdir gs://b/a --dry-run").stdout.startswith("launch/setup.sh gpu,gcs\n")


def test_all_launchers_end_in_the_same_command():
    command = "python -m albert_jax train --config configs/pretrain_xlarge.py --workdir"
    for name in ("tpu_vm", "tpu_vm_slices", "gke_xpk", "slurm"):
        assert command in (GOLDEN / f"{name}.txt").read_text()
    sky = yaml.safe_load((ROOT / "launch/sky.yaml").read_text())
    assert 'python -m albert_jax train --config "$CONFIG" --workdir "$WORKDIR" $OVERRIDES' in sky["run"]
    assert sky["resources"]["job_recovery"]["recover_on_exit_codes"] == [143]
    assert sky["envs"]["WORKDIR"] is None  # SkyPilot then refuses to start without it


def test_words_reach_train_as_they_were_given():
    """Quoting survives this shell, gcloud's --command and the worker's shell."""
    odd = ["--name", "it's a $HOME `run`", "--task.data", "a b"]
    printed = launch(f"tpu_vm.sh {TPU} --dry-run -- {shlex.join(odd)}").stdout
    line = next(line for line in printed.splitlines() if "worker.sh start" in line)
    command = next(word for word in shlex.split(line) if word.startswith("--command="))
    assert shlex.split(command)[-4:] == odd


def test_the_cluster_restarts_signals_and_not_mistakes():
    """What the real xpk makes of our command; tests/launch/test_xpk.py compares with xpk itself."""
    job = yaml.safe_load((GOLDEN / "xpk_manifest.yaml").read_text())
    spec = job["spec"]["replicatedJobs"][0]["template"]["spec"]
    rule = spec["podFailurePolicy"]["rules"][0]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["operator"] == "NotIn"
    assert {134, 137, 143, 255} <= set(rule["onExitCodes"]["values"])
    assert not {1, 2} & set(rule["onExitCodes"]["values"])
    assert job["spec"]["failurePolicy"]["maxRestarts"] == 20
    pod = spec["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 120
    assert "(launch/setup.sh tpu && exec .venv/bin/python -m albert_jax train" in pod["containers"][0]["command"][2]


REFUSED = {
    "tpu_vm.sh --type v5litepod-16": "--name is missing",
    "tpu_vm.sh --name Pod_1": "--name Pod_1 is no name for a cloud resource",
    "tpu_vm.sh --name": "--name needs a value",
    f"tpu_vm.sh {TPU} --batch-size 8": "unknown word --batch-size; see launch/tpu_vm.sh --help (words for train",
    f"tpu_vm.sh {TPU} --config configs/none.py": "there is no configs/none.py; one of configs/",
    f"tpu_vm.sh {TPU} --config /etc/passwd": "--config /etc/passwd lies outside the repository",
    f"tpu_vm.sh {TPU} --type v5litepod-250": "unknown --type v5litepod-250; v5litepod comes in 1,4,8,16,32,64,128,256",
    f"tpu_vm.sh {TPU} --type v5e-256": "unknown --type v5e-256; Cloud calls it v5litepod-256",
    f"tpu_vm.sh {TPU} --type v9-8": "unknown --type v9-8; types are FAMILY-SIZE, families: v4, v5litepod, v5p, v6e",
    f"tpu_vm.sh {TPU} --zone us-west9-z": "--zone us-west9-z is unknown; zones with v5litepod: us-central1-a,",
    f"tpu_vm.sh {TPU} --type v4-16": "--zone us-west4-a has no v4; zones with v4: us-central2-b ",
    f"tpu_vm.sh {TPU} --workdir runs/a": "--workdir runs/a is each worker's own disk, and this run has several; every",
    f"tpu_vm.sh {TPU} --type v5litepod-8 --slices 2 --workdir runs/a": "--workdir runs/a is each worker's own disk",
    f"tpu_vm.sh {TPU} --type v5litepod-8 --spot --workdir runs/a": "--workdir runs/a goes with the VM when",
    f"tpu_vm.sh {TPU} --workdir gs://": "--workdir gs:// is each worker's own disk",
    f"tpu_vm.sh {TPU} --data runs/corpus": "--data runs/corpus is not on gs://",
    f"tpu_vm.sh {TPU} --spot --reserved": "--spot and --reserved exclude each other",
    f"tpu_vm.sh {TPU} --slices two": "--slices two is not a number of slices",
    f"tpu_vm.sh {TPU} --slices 99999999999999999999": "--slices 99999999999999999999 is not a number of slices",
    f"tpu_vm.sh {TPU} --backoff soon": "--backoff soon is not a number of seconds",
    f"tpu_vm.sh {TPU} --backoff 08": "--backoff 08 is not a number of seconds",
    f"tpu_vm.sh {TPU} --retries 99999999999999999999": "--retries 99999999999999999999 is not a number",
    f"tpu_vm.sh --name {TPU}": "--name needs a value",
    f"tpu_vm.sh {TPU} --type v5litepod-16,32": "unknown --type v5litepod-16,32; v5litepod comes in",
    f"tpu_vm.sh {TPU} --type #-16": "unknown --type #-16; types are FAMILY-SIZE",
    f"tpu_vm.sh {TPU} --zone us-west4-a,us-east5-a": "--zone us-west4-a,us-east5-a is unknown; zones with",
    f"tpu_vm.sh {TPU} --dry-run=yes": "--dry-run takes no value",
    f"tpu_vm.sh {TPU} --reserved=no": "--reserved takes no value",
    f"tpu_vm.sh {TPU} --config README.md": "--config README.md is no Python file; one of configs/",
    f"tpu_vm.sh {TPU} --workdir gs:///run": "--workdir gs:///run is each worker's own disk",
    f"tpu_vm.sh {TPU} --type v5litepod-8 --workdir s3://b/a": "--workdir s3://b/a is neither a directory nor gs://",
    f"tpu_vm.sh {TPU} -- --workdir=runs/a": "--workdir goes before --; it is not only for train",
    f"gke_xpk.sh {TPU}": "--cluster is missing",
    f"gke_xpk.sh {TPU} --cluster c --workdir runs/a": "--workdir runs/a is a container's own disk",
    f"gke_xpk.sh {TPU} --cluster c --type v5litepod-4": "--type v5litepod-4 is part of a host, which xpk has not; ",
    "gke_xpk.sh --name pod --cluster c --delete": "--zone is missing; it is the cluster's",
    f"gke_xpk.sh {TPU} --cluster c --type v6e-12": "unknown --type v6e-12; v6e comes in 1,4,8,16,",
    f"slurm.sh {SLURM} --type h100": "--type h100: GPUs of a node as [NAME:]NUMBER",
    f"slurm.sh {SLURM} --workdir /tmp/a": "--workdir /tmp/a is each node's own",
    f"slurm.sh {SLURM} --workdir s3://b/a": "--workdir s3://b/a is neither a directory nor gs://BUCKET/DIR",
    f"slurm.sh {SLURM} --workdir gs://": "--workdir gs:// is neither a directory nor gs://BUCKET/DIR",
    f"slurm.sh {SLURM} --slices 2": "--slices is for TPU slices; give --nodes",
    f"slurm.sh {SLURM} --nodes 0": "--nodes 0 is not a number of nodes",
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_bad_words_are_refused_in_one_line(words):
    done = launch(words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {REFUSED[words]}"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "tool", "there"),
    [
        (f"tpu_vm.sh {TPU}", "gcloud", ""),
        (f"gke_xpk.sh {TPU} --cluster c", "xpk", "gcloud kubectl"),
        (f"gke_xpk.sh {TPU} --cluster c", "kubectl", "gcloud xpk"),
        (f"gke_xpk.sh {TPU} --cluster c", "gcloud", "kubectl xpk"),
        (f"slurm.sh {SLURM}", "sbatch", ""),
    ],
)
def test_a_missing_tool_is_one_line(words, tool, there, tmp_path):
    for name in ("bash", "env", "awk", "dirname", "sort", "head", *there.split()):
        found = shutil.which(name, path=NO_CLOUD["PATH"])
        (tmp_path / name).symlink_to(found)
    done = launch(words, PATH=str(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tool} is not installed; "), done
    assert done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke_xpk.sh", "slurm.sh"])
def test_help_tells_every_option_the_script_reads(script):
    done = launch(f"{script} --help")
    assert done.returncode == 0 and done.stderr == ""
    text = (ROOT / "launch" / script).read_text()
    own = set(re.findall(r"(--[a-z][a-z-]+)(?= \||\) )", text[text.index("own_option") :].split("\n}\n")[0]))
    common = {"--name", "--type", "--zone", "--config", "--workdir", "--dry-run", "--retries"}
    assert own and not {word for word in own | common if word not in done.stdout}
    assert "set -euo" not in done.stdout


def test_the_commands_of_the_page_are_dry_runs_or_help():
    """docs/pod.md: every command of a launch script is accepted; its upper-case places are filled in."""
    page = (ROOT / "docs/pod.md").read_text()
    commands = re.findall(r"^(launch/(?:tpu_vm|gke_xpk|slurm)\.sh(?:[^\n]*\\\n)*[^\n]*)", page, flags=re.M)
    assert len(commands) >= 5
    for command in commands:
        words = command.replace("\\\n", " ").split("#")[0].strip().removeprefix("launch/")
        head, mark, tail = words.partition(" -- ")
        done = launch(f"{head} --dry-run{mark}{tail}")
        assert done.returncode == 0 and done.stdout, (command, done.stderr)
