"""What the fake gcloud, xpk and sbatch share: state kept in files under $FAKE_CLOUD, machines that are directories, a
script of what befalls the run at each start.

$FAKE_CLOUD/script holds one word a start: run, preempt, stop (SIGTERM on a machine that stays), drop (the connection),
half (started on worker 0 alone), hold (until Ctrl-C), cancel; when it is used up, every further
start is a run.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
CLOUD = Path(os.environ["FAKE_CLOUD"])
HOLD = CLOUD / "hold"  # while it is there, the stand-in for train waits after three steps, all processes up: REACHED
REACHED = Path(os.environ.get("FAKE_REACHED", CLOUD / "reached"))


def read(name: str, default=None):
    path = CLOUD / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else default


def write(name: str, value) -> None:
    path = CLOUD / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps(value))
    path.with_suffix(".new").replace(path)


def next_act(processes: int) -> str:
    """Takes the next word of the script, for a run of so many processes."""
    script = CLOUD / "script"
    acts = script.read_text().split() if script.exists() else []
    act = acts.pop(0) if acts else "run"
    script.write_text(" ".join(acts))
    for path in (CLOUD / "reached", CLOUD / "broken", *CLOUD.glob("up-*")):
        path.unlink(missing_ok=True)
    (CLOUD / "count").write_text(str(1 if act == "half" else processes))
    if act != "run":
        HOLD.touch()
    elif read("act") != "half":  # else what was started then holds on until it is stopped
        HOLD.unlink(missing_ok=True)
    write("act", act)
    return act


def make_environment(code: Path, extra: str) -> None:
    """The .venv that launch/setup.sh would make in `code`, with the stand-in for its Python."""
    words = "cat requirements.txt requirements-dev.txt pyproject.toml | cksum | tr ' ' '-'"
    found = subprocess.run(words, shell=True, cwd=os.environ["FAKE_CODE"], capture_output=True, text=True, check=True)
    (code / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (code / ".venv" / f"made-{extra}-{found.stdout.strip()}").touch()
    python = code / ".venv" / "bin" / "python"
    python.unlink(missing_ok=True)
    python.symlink_to(os.environ.get("FAKE_PYTHON", HERE / "train.py"))


def wait_until(true, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            sys.exit("fake cloud: waited in vain")
        time.sleep(0.005)


def detach(*words: str) -> None:
    """Runs this very program again, with other words, outliving it."""
    subprocess.Popen(
        [sys.executable, os.path.abspath(sys.argv[0]), *words],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(CLOUD / "detached.log").open("a"),
    )


def send(pid: int, number: int = signal.SIGTERM) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
