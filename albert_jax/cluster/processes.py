"""How the processes of one run find each other, and how all end when one fails.

One process a host on TPU slices, one a GPU under SLURM, any number on plain CPUs (gloo).
"""

import atexit
import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax

# JAX has no public name for the key-value store that its processes share, nor for asking a cluster about them.
from jax._src import distributed
from jax._src.clusters import ClusterEnv

from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.fields import knob

_STATE: Any = distributed.global_state  # its client is that store, once the processes are connected
_RETRY_S = 0.2  # between two attempts to reach process 0
_POLL_S = 2.0  # between two looks whether another process has failed
_HELLO = "albert_jax"  # first word of the line that a process sends to process 0
_GO = "go"  # verdict of a roll call that all have answered
_FAILED = "albert_jax/failed"  # key in that store under which the first process that fails reports it


@dataclass(frozen=True)
class ProcessConfig:
    """Where the processes of a run meet. On TPU slices and under SLURM or Open MPI nothing needs to be given; elsewhere
    give coordinator, count and index, here or in the environment variables."""

    coordinator: str = ""  # HOST:PORT of process 0, which all must reach (or ALBERT_JAX_COORDINATOR)
    count: int = 0  # processes of the run; 1 = alone, whatever the environment says (or ALBERT_JAX_PROCESS_COUNT)
    index: int = -1  # number of this process, from 0 (or ALBERT_JAX_PROCESS_INDEX)
    timeout_s: float = knob(300.0, above=0)  # seconds until all must be there


@contextlib.contextmanager
def joined(config: ProcessConfig) -> Iterator[bool]:
    """`join`; gives whether this process is the one that writes and prints. Within it, an error in one process ends the
    others in seconds, and they say which one it was."""
    join(config)
    if not jax.distributed.is_initialized():
        yield True
        return
    over = threading.Event()
    # Without it, the others would wait for the failed process in their next collective, for ever.
    threading.Thread(target=_watch_others, args=(over,), daemon=True).start()
    try:
        yield jax.process_index() == 0
    except SystemExit:  # all processes leave together
        raise
    except BaseException as error:
        code = 2 if isinstance(error, AlbertError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # another process was first
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            _STATE.client.key_value_set(_FAILED, f"process {jax.process_index()} ({socket.gethostname()}): {reason}")
        # JAX would wait minutes for the others at exit; process 0 stays until they have read the message.
        atexit.register(_leave, code, _POLL_S + 2 if jax.process_index() == 0 else 0.5)
        raise
    finally:
        over.set()


def join(config: ProcessConfig) -> None:
    """Makes this process one of a run of several, or returns where it is alone. To be called before anything asks JAX
    for a device.

    Raises AlbertError when not all are there within `config.timeout_s` seconds, and where what is given is incomplete.
    """
    if jax.distributed.is_initialized():
        return
    deadline = time.monotonic() + config.timeout_s
    if (found := _find(config)) is None:
        return
    address, count, index, devices = found
    _roll_call(address, count, index, deadline, config.timeout_s)
    left = max(10, int(deadline - time.monotonic()))
    jax.distributed.initialize(address, count, index, devices, initialization_timeout=left)


def _find(config: ProcessConfig) -> tuple[str, int, int, Sequence[int] | None] | None:
    """Coordinator's address, count, index and this process's devices (None for all); None for a process alone."""
    address: str | None = config.coordinator or os.environ.get("ALBERT_JAX_COORDINATOR") or None
    count: int | None = config.count or _number("ALBERT_JAX_PROCESS_COUNT")
    index: int | None = config.index if config.index >= 0 else _number("ALBERT_JAX_PROCESS_INDEX")
    if count == 1:
        return None
    given = (address, count, index) != (None, None, None)
    devices: Sequence[int] | None = None
    if None in (address, count, index):
        advice = "--processes.coordinator, --processes.count and --processes.index, or --processes.count 1 to run alone"
        unclear = "this looks like one of several workers, and how many there are cannot be found out"
        # Of any kind: whatever a metadata server or a name service answers.
        with retold(lambda reason: f"{unclear} ({reason}); give {advice}", Exception):
            ask, timeout = ClusterEnv.auto_detect_unset_distributed_params, int(config.timeout_s)
            address, count, index, devices = ask(address, count, index, None, None, timeout)
        # One SLURM task is no run of several, unless it was said to be.
        if not given and (count is None or count == 1):
            return None
    refuse(_flaws(address, count, index))
    assert address is not None and count is not None and index is not None  # for mypy
    return address, count, index, devices


def _flaws(address: str | None, count: int | None, index: int | None) -> Iterator[str]:
    fields = {"processes.coordinator": address, "processes.count": count, "processes.index": index}
    if missing := [name for name, value in fields.items() if value is None]:
        needed = "--processes.coordinator HOST:PORT, --processes.count and --processes.index"
        yield f"several processes need {needed}; missing: {', '.join(missing)}"
    if not re.fullmatch(r".+:\d+", address or ""):
        yield f"processes.coordinator is {address!r}; give HOST:PORT of process 0"
    if not 0 <= (index or 0) < (count or 0):
        yield f"processes.index is {index}; with processes.count {count} it must be 0 to {(count or 0) - 1}"


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text and not text.isdigit():
        raise AlbertError(f"the environment variable {variable} is {text!r}; it must be a whole number")
    return int(text) if text else None


# ---- the roll call: a line from every process to process 0, and its verdict back to all
#
# Held on the coordinator's port before JAX connects the processes: JAX itself aborts without a word about who is
# missing.


def _roll_call(address: str, count: int, index: int, deadline: float, timeout_s: float) -> None:
    """Returns when all processes are there. Raises AlbertError in each of those that are when some are not."""
    if index:
        verdict = _report(address, count, index, deadline, timeout_s)
    else:
        verdict = _collect(address, count, deadline, timeout_s)
    if verdict != _GO:
        raise AlbertError(verdict)


def _collect(address: str, count: int, deadline: float, timeout_s: float) -> str:
    """Process 0: waits for the others, sends all of them the verdict, _GO or what is wrong, and returns it."""
    port, six = int(address.rpartition(":")[2]), socket.has_dualstack_ipv6()
    advice = "choose another port for the run"
    with retold(lambda why: f"process 0 cannot listen on {address} ({why}); {advice}", OSError, OverflowError):
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if six else socket.AF_INET, dualstack_ipv6=six, backlog=4096
        )
    arrived: dict[int, socket.socket] = {}
    verdict = _GO
    with server:
        while verdict == _GO and len(arrived) < count - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                missing = [str(number) for number in range(1, count) if number not in arrived]
                more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
                verdict = _absent(len(arrived) + 1, count, timeout_s, f"missing: {', '.join(missing[:8])}{more}")
                break
            if (hello := _read_hello(peer)) is None:
                peer.close()
                continue
            number, reported = hello
            if reported != count:
                counts = f"there are {reported} processes, process 0 that there are {count}"
                verdict = f"process {number} was told that {counts}; start all with the same --processes.count"
            # A process whose connection broke calls again, and is the same one: only an open connection is another's.
            elif number == 0 or (number in arrived and _is_open(arrived[number])):
                advice = "give each its own --processes.index"
                verdict = f"two processes say that they are number {number} of {count}; {advice}"
            arrived[number] = peer
        for peer in arrived.values():
            with contextlib.suppress(OSError), peer:
                peer.sendall(f"{verdict}\n".encode())
                peer.recv(1)  # the other side closes first, so that the port is free at once
    return verdict


def _report(address: str, count: int, index: int, deadline: float, timeout_s: float) -> str:
    """The others: reports to process 0 and returns its verdict, or that it does not answer."""
    host, _, port = address.rpartition(":")
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError, OverflowError):
            with socket.create_connection((host.strip("[]"), int(port)), timeout=min(left, 5.0)) as peer:
                peer.sendall(f"{_HELLO} {index} {count}\n".encode())
                peer.settimeout(left + 5.0)  # process 0 may have started later, its verdict comes when its time is up
                line = peer.makefile(errors="replace").readline().strip()
            if line == _GO or ";" in line:  # every other verdict has advice after a semicolon; half a line is none
                return line
        time.sleep(_RETRY_S)
    return _absent(1, count, timeout_s, f"process {index} is here, process 0 does not answer at {address}")


def _read_hello(peer: socket.socket) -> tuple[int, int] | None:
    """Index and count of a process that calls; None for something else that knocked."""
    peer.settimeout(5.0)
    with contextlib.suppress(OSError):
        if hello := re.fullmatch(rf"{_HELLO} (\d+) (\d+)\n", peer.makefile(errors="replace").readline()):
            return int(hello[1]), int(hello[2])
    return None


def _absent(present: int, count: int, timeout_s: float, who: str) -> str:
    joined = f"{present} of {count} processes joined within {timeout_s:g} s"
    return f"{joined} ({who}); start all workers with the same command"


def _is_open(peer: socket.socket) -> bool:
    """Whether the other side, which sends nothing more, still holds its end."""
    peer.setblocking(False)
    try:
        return bool(peer.recv(1))
    except BlockingIOError:
        peer.settimeout(5.0)
        return True
    except OSError:
        return False


# ---- an error in one process ends all


def _watch_others(over: threading.Event) -> None:
    """Ends this process when another says that it failed; a thread's work."""
    while not over.wait(_POLL_S):
        try:
            reason = _STATE.client.key_value_try_get(_FAILED)
        except (jax.errors.JaxRuntimeError, AttributeError):  # no such key, or JAX has shut down
            continue
        if over.wait(1.0):  # this process met the same error and reports it itself
            return
        print(f"error: another process failed, {reason}", file=sys.stderr)
        _leave(2, 0)


def _leave(code: int, after: float) -> None:
    """Ends the process in `after` seconds, without waiting for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(after)
    os._exit(code)
