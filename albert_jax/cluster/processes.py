"""How the processes of one run find each other, and how all end when one fails.

One process a host on TPU slices, one a GPU under SLURM, any number on plain CPUs (gloo). Before JAX connects them,
process 0 holds a roll call on the coordinator's port: JAX itself aborts without a word about who is missing.
"""

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax._src import (
    distributed,
)  # its client is how processes tell each other of a failure: JAX has no public name for it
from jax._src.clusters import ClusterEnv

from albert_jax.errors import AlbertError

_RETRY = 0.2  # seconds between two attempts to reach process 0
_POLL = 2.0  # seconds between two looks whether another process has failed
_HELLO = "albert_jax"  # first word of the line that a process sends to process 0
_FAILED = "albert_jax/failed"  # key under which the first process that fails says so


@dataclass(frozen=True)
class ProcessConfig:
    """Where the processes of a run meet. On TPU slices and under SLURM or Open MPI nothing needs to be given; elsewhere
    give coordinator, count and index, here or in the environment variables."""

    coordinator: str = ""  # HOST:PORT of process 0, which all must reach (or ALBERT_JAX_COORDINATOR)
    count: int = 0  # processes of the run; 1 = alone, whatever the environment says (or ALBERT_JAX_PROCESS_COUNT)
    index: int = -1  # number of this process, from 0 (or ALBERT_JAX_PROCESS_INDEX)
    timeout_s: float = 300.0  # seconds until all must be there


@contextlib.contextmanager
def joined(config: ProcessConfig) -> Iterator[bool]:
    """`join`; gives whether this process is the one that writes and prints. While it lasts, an error in one process
    ends the others within seconds, which would wait for it in a collective: they say which one it was."""
    join(config)
    if not jax.distributed.is_initialized():
        yield True
        return
    over = threading.Event()
    threading.Thread(target=_watch_others, args=(over,), daemon=True).start()
    try:
        yield jax.process_index() == 0
    except SystemExit:  # all processes leave together
        raise
    except BaseException as error:
        code = 2 if isinstance(error, AlbertError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # another process was first
            told = str(error).strip().split("\n")[0] or type(error).__name__
            _client().key_value_set(_FAILED, f"process {jax.process_index()} ({socket.gethostname()}): {told}")
        # JAX would wait minutes for the others at exit; process 0 stays until they have read the message.
        atexit.register(_leave, code, _POLL + 2 if jax.process_index() == 0 else 0.5)
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
    place = _find(config)
    if place is None:
        return
    address, count, index, devices = place
    _roll_call(address, count, index, deadline, config.timeout_s)
    jax.distributed.initialize(
        address, count, index, devices, initialization_timeout=max(10, int(deadline - time.monotonic()))
    )


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
        try:
            address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
                address, count, index, None, None, int(config.timeout_s)
            )
        except Exception as error:  # whatever a metadata server or a name service answers
            raise AlbertError(
                f"this looks like one of several workers, and how many there are cannot be found out ({error}); give "
                "--processes.coordinator, --processes.count and --processes.index, or --processes.count 1 to run alone"
            ) from error
        if not given and (count is None or count == 1):
            return None
    if address is None or count is None or index is None:
        raise AlbertError(
            "several processes need --processes.coordinator HOST:PORT, --processes.count and --processes.index; "
            f"missing: {', '.join(n for n, v in zip(_NAMES, (address, count, index), strict=True) if v is None)}"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise AlbertError(f"processes.coordinator is {address!r}; give HOST:PORT of process 0")
    if not 0 <= index < count:
        raise AlbertError(f"processes.index is {index}; with processes.count {count} it must be 0 to {count - 1}")
    return address, count, index, devices


_NAMES = ("processes.coordinator", "processes.count", "processes.index")


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdigit():
        raise AlbertError(f"the environment variable {variable} is {text!r}; it must be a whole number")
    return int(text)


# ---- the roll call: a line from every process to process 0, and its verdict back to all


def _roll_call(address: str, count: int, index: int, deadline: float, timeout_s: float) -> None:
    """Returns when all processes are there. Raises AlbertError in each of those that are when some are not."""
    verdict = _answer(address, count, index, deadline) if index else _call(address, count, deadline)
    if verdict != "go":
        within = f"within {timeout_s:g} s"
        raise AlbertError(verdict.replace("IN TIME", within))


def _call(address: str, count: int, deadline: float) -> str:
    """Process 0: waits for the others and tells them, and returns, "go" or what is wrong."""
    port = int(address.rpartition(":")[2])
    six = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if six else socket.AF_INET, dualstack_ipv6=six, backlog=4096
        )
    except (OSError, OverflowError) as error:
        raise AlbertError(f"process 0 cannot listen on {address} ({error}); choose another port for the run") from error
    there: dict[int, socket.socket] = {}
    verdict = "go"
    with server:
        while verdict == "go" and len(there) < count - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                missing = [number for number in range(1, count) if number not in there]
                verdict = _absent(len(there) + 1, count, f"missing: {_numbers(missing)}")
                break
            peer.settimeout(5.0)
            try:
                number, told = _read_hello(peer.makefile(errors="replace").readline())
            except (OSError, ValueError):  # something else knocked
                peer.close()
                continue
            if told != count:
                verdict = f"process {number} was told that there are {told} processes, process 0 that there are {count}"
                verdict += "; start all with the same --processes.count"
            elif number == 0 or (number in there and _open(there[number])):
                verdict = f"two processes say that they are number {number} of {count}"
                verdict += "; give each its own --processes.index"
            there[number] = peer
        for peer in there.values():
            with contextlib.suppress(OSError), peer:
                peer.sendall(f"{verdict}\n".encode())
                peer.recv(1)  # the other side closes first, so that the port is free at once
    return verdict


def _answer(address: str, count: int, index: int, deadline: float) -> str:
    """The others: reports to process 0 and returns its verdict, or what is wrong."""
    host, _, port = address.rpartition(":")
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=min(left, 5.0)) as peer:
                peer.sendall(f"{_HELLO} {index} {count}\n".encode())
                peer.settimeout(left + 5.0)  # process 0 may have started later, its verdict comes when its time is up
                line = peer.makefile(errors="replace").readline().strip()
            if line == "go" or ";" in line:
                return line
        except (OSError, OverflowError):
            pass
        time.sleep(_RETRY)
    return _absent(1, count, f"process {index} is here, process 0 does not answer at {address}")


def _read_hello(line: str) -> tuple[int, int]:
    """Index and count of who says hello. Raises ValueError for another line."""
    hello, number, count = line.split()
    if hello != _HELLO:
        raise ValueError(line)
    return int(number), int(count)


def _absent(here: int, count: int, who: str) -> str:
    return f"{here} of {count} processes joined IN TIME ({who}); start all workers with the same command"


def _numbers(missing: list[int]) -> str:
    return ", ".join(map(str, missing[:8])) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")


def _open(peer: socket.socket) -> bool:
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


def _client() -> Any:
    """The processes' common store; JAX has no public name for it."""
    return distributed.global_state.client


def _watch_others(over: threading.Event) -> None:
    """Ends this process when another says that it failed; a thread's work."""
    while not over.wait(_POLL):
        try:
            told = _client().key_value_try_get(_FAILED)
        except (jax.errors.JaxRuntimeError, AttributeError):  # nothing there, or JAX has shut down
            continue
        if over.wait(1.0):  # this process met the same error and tells it itself
            return
        print(f"error: another process failed, {told}", file=sys.stderr)
        _leave(2, 0)


def _leave(code: int, after: float) -> None:
    """Ends the process without waiting for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(after)
    os._exit(code)
