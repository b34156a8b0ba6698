"""The dry runs whose text is kept in golden/.

python -m tests.launch.dry_runs writes them anew, for a change that is meant.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
# No cloud can be reached by a mistake here: its commands are the fakes, which fail without a state.
NO_CLOUD = os.environ | {"PATH": f"{Path(__file__).parent / 'fake'}:{os.environ['PATH']}"}

RUN = "--config configs/pretrain_xlarge.py --workdir gs://BUCKET/run"
SLICE = "--name pod --type v5litepod-256 --zone us-west4-a"
COMMANDS = {
    "tpu_vm": f"launch/tpu_vm.sh {SLICE} {RUN} --spot -- --batch-size 8192",
    "tpu_vm_slices": f"launch/tpu_vm.sh {SLICE} {RUN} --slices 2 --reserved --data gs://BUCKET/corpus "
    "--delete-when-done",
    "tpu_vm_delete": "launch/tpu_vm.sh --name pod --zone us-west4-a --delete",
    "gke_xpk": f"launch/gke_xpk.sh --cluster CLUSTER --project PROJECT {SLICE} {RUN} --slices 2 --spot "
    "-- --batch-size 8192",
    "gke_xpk_delete": "launch/gke_xpk.sh --cluster CLUSTER --name pod --zone us-west4-a --delete",
    "slurm": "launch/slurm.sh --name albert --nodes 2 --type h100:8 --zone gpu --time 24:00:00 "
    "--config configs/pretrain_xlarge.py --workdir /shared/runs/xlarge -- --batch-size 8192",
}


def dry_run(name: str) -> str:
    """The command and what it prints, with the repository's own place called ROOT."""
    words, mark, rest = COMMANDS[name].partition(" -- ")
    command = f"{words} --dry-run{mark}{rest}"
    done = subprocess.run(shlex.split(command), cwd=ROOT, env=NO_CLOUD, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and not done.stderr, done
    return f"$ {command}\n{re.sub(re.escape(str(ROOT)), 'ROOT', done.stdout)}"


if __name__ == "__main__":
    for name in COMMANDS:
        (GOLDEN / f"{name}.txt").write_text(dry_run(name))
        print(GOLDEN / f"{name}.txt")
