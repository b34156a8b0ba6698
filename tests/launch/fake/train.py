#!/usr/bin/env python3
"""Stands in for .venv/bin/python: answers `-m albert_jax train --config FILE --workdir DIR` in milliseconds.

The first process takes nine steps of a recurrence whose last value tells whether any step was lost or repeated, saves
when told to stop and ends with 143; the others wait for it. `--fail STATUS --worker I` makes process I fail and the
others lose their peer.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 9
words = sys.argv[1:]
assert words[:3] == ["-m", "albert_jax", "train"], words
cloud = Path(os.environ["FAKE_CLOUD"])


def option(name: str, default: str = "") -> str:
    return words[words.index(name) + 1] if name in words else default


assert Path(option("--config")).exists(), option("--config")
workdir = Path(option("--workdir").replace("gs://", f"{cloud}/buckets/"))
index = int(os.environ["FAKE_INDEX"])
state_file = workdir / "state.json"
broken = cloud / "broken"


def state() -> dict:
    return json.loads(state_file.read_text()) if state_file.exists() else {"step": 0, "value": 1}


def stop(number, frame):
    if index == 0:
        print(f"stopped by a signal after step {now['step']}; run the command again to continue", flush=True)
        save()
    sys.exit(143)


def save() -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    state_file.with_suffix(".new").write_text(json.dumps(now))
    state_file.with_suffix(".new").replace(state_file)


now = state()
signal.signal(signal.SIGTERM, stop)
(cloud / f"up-{index}").touch()
print(f"process {index}: {now['step']} of {STEPS} steps done; {' '.join(words)}", flush=True)
if option("--fail") and int(option("--worker", "0")) == index:
    print("error: configs/bad.py, field optim: made up for this test", flush=True)
    broken.write_text(str(os.getpid()))
    sys.exit(int(option("--fail")))
start = now["step"]
while (now if index == 0 else state())["step"] < STEPS:
    if option("--fail"):
        while not broken.exists() or not broken.read_text() or Path("/proc", broken.read_text()).exists():
            time.sleep(0.01)
        time.sleep(0.5)
        print("a peer vanished", flush=True)
        sys.exit(134)
    if index == 0:
        now["step"] += 1
        now["value"] = (now["value"] * 31 + now["step"]) % 1009
        print(f"step {now['step']}", flush=True)
        if (cloud / "hold").exists() and now["step"] == start + 3:
            while len(list(cloud.glob("up-*"))) < int((cloud / "count").read_text()):
                time.sleep(0.01)
            (cloud / "reached").touch()
            while (cloud / "hold").exists():
                time.sleep(0.01)
    time.sleep(0.01)
if index == 0:
    save()
    print(f"final value {now['value']}", flush=True)
