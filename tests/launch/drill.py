"""Submit, preempt, resubmit, finish: the launch scripts against a fake gcloud, xpk and sbatch (fake/).

python -m tests.launch.drill prints the log of one drill with each.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAKE = Path(__file__).parent / "fake"
FINAL = 406  # value of the stand-in's recurrence after nine steps taken once each

WHAT = "--config configs/pretrain_base.py --workdir gs://bucket/run"
TPU = f"--name pod --type v5litepod-16 --zone us-west4-a {WHAT} --backoff 0"
GKE = f"--name pod --cluster c --type v5litepod-16 --zone us-west4-a {WHAT}"
SLURM = f"--name albert --nodes 2 --type h100:2 --zone gpu {WHAT}"


@dataclass
class Drill:
    """A checkout of the code and an empty fake cloud, both under `place`."""

    place: Path
    variables: dict[str, str] | None = None  # more for the environment

    def __post_init__(self) -> None:
        self.code, self.cloud = self.place / "code", self.place / "cloud"
        self.cloud.mkdir()
        self.code.mkdir()
        for name in ("albert_jax", "configs", "launch"):
            shutil.copytree(ROOT / name, self.code / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.code)
        # The fakes and the stand-in run under the Python of the tests, which has PyYAML.
        self.environment = os.environ | {
            "PATH": f"{FAKE}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FAKE_CLOUD": str(self.cloud),
            "FAKE_CODE": str(self.code),
            "GRACE": "5",
            **(self.variables or {}),
        }

    def befalls(self, *acts: str) -> None:
        """What befalls the run at each of its starts: run, preempt, stop, drop, half, hold or cancel."""
        (self.cloud / "script").write_text(" ".join(acts))

    def fails(self, *failures: tuple[str, int]) -> None:
        """(part, status): the next gcloud command with the part in it fails so; with status 0 it goes on."""
        (self.cloud / "fails.json").write_text(json.dumps(failures))

    def requests(self, *states: str) -> None:
        """What becomes of the requests for slices: ACTIVE, FAILED or SUSPENDED."""
        (self.cloud / "requests.json").write_text(json.dumps(states))

    def launch(self, script: str, words: str, *more: str) -> tuple[int, str]:
        """Status and log of launch/SCRIPT."""
        done = subprocess.run(
            [f"launch/{script}", *words.split(), *more],
            cwd=self.code,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return done.returncode, done.stdout

    def state(self, workdir: str = "bucket/run") -> dict:
        """What the stand-in for train saved."""
        return json.loads((self.cloud / "buckets" / workdir / "state.json").read_text())

    def commands(self) -> list[str]:
        path = self.cloud / "commands"
        return path.read_text().splitlines() if path.exists() else []

    def python(self, code: str) -> None:
        """Runs `code` with fake/cloud.py imported."""
        code = f"import sys; sys.path.insert(0, {str(FAKE)!r}); import cloud; {code}"
        subprocess.run([sys.executable, "-c", code], cwd=self.code, env=self.environment, check=True)

    def slurm(self, *more: str) -> tuple[dict, str]:
        """Submits with slurm.sh and waits: the job's last state, its log."""
        self.python("cloud.make_environment(cloud.Path('.'), 'gpu,gcs')")
        status, log = self.launch("slurm.sh", SLURM, *more)
        assert status == 0, log
        self.python("cloud.wait_until(lambda: 'status' in (cloud.read('job') or {}))")
        return json.loads((self.cloud / "job.json").read_text()), log + self.job_log()

    def job_log(self) -> str:
        return (self.code / "runs/slurm/albert-4711.log").read_text()


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        print("== TPU VM: a spot slice, preempted once, its connection lost once")
        (Path(place) / "tpu").mkdir()
        drill = Drill(Path(place) / "tpu")
        drill.befalls("preempt", "drop")
        print(f"$ launch/tpu_vm.sh {TPU} --spot --delete-when-done")
        status, log = drill.launch("tpu_vm.sh", TPU, "--spot", "--delete-when-done")
        print(f"{log}status {status}, saved {drill.state()}\n")

        print("== GKE: a workload whose pods are told to stop once")
        (Path(place) / "gke").mkdir()
        drill = Drill(Path(place) / "gke")
        drill.befalls("preempt")
        print(f"$ launch/gke_xpk.sh {GKE}")
        status, log = drill.launch("gke_xpk.sh", GKE)
        print(
            f"{log}-- the pods' log\n{(drill.cloud / 'pods.log').read_text()}status {status}, saved {drill.state()}\n"
        )

        print("== SLURM: a job at its time limit, then preempted")
        (Path(place) / "slurm").mkdir()
        drill = Drill(Path(place) / "slurm")
        drill.befalls("stop", "preempt")
        print(f"$ launch/slurm.sh {SLURM}")
        job, log = drill.slurm()
        print(f"{log}{job}, saved {drill.state()}")


if __name__ == "__main__":
    main()
