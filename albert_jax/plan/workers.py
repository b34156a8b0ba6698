"""Processes that compile: started with a clean environment, what libtpu says kept off the terminal."""

import dataclasses
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from albert_jax.errors import AlbertError
from albert_jax.experiment import to_dict
from albert_jax.plan.compile import Job, Program, program_from_dict

_BUSY = ("already in use", "libtpu_lockfile", "lockfile")  # what libtpu says before it ends its process


class Compilers:
    """Up to `count` processes of `albert_jax.plan.compile`, each started when it is first needed.

    Args:
      count: processes at once; a compilation keeps one core busy and takes one to two GiB
      known: programs by key, which are not compiled again; every new one joins them
    """

    def __init__(self, count: int = 0, known: dict[str, Program] | None = None):
        self.known: dict[str, Program] = {} if known is None else known
        self._pool = ThreadPoolExecutor(count or min(os.cpu_count() or 1, 4))
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all: list[_Process] = []
        self._lock = threading.Lock()

    def submit(self, job: Job) -> Future[Program]:
        """The job's program, once it is compiled. Its result raises what `compile_step` raises."""
        return self._pool.submit(self._run, job)

    def _run(self, job: Job) -> Program:
        process = self._take(job)
        try:
            answer = process.ask(job, [] if job.hlo else list(self.known))
        finally:
            self._idle.put(process)
        if "known" in answer:
            return self.known[answer["known"]]
        program = program_from_dict(answer["program"])
        self.known[program.key] = program
        return program

    def _take(self, job: Job) -> "_Process":
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = None
        if process is not None and process.alive:
            return process
        process = _Process(bool(job.topology))
        with self._lock:
            self._all.append(process)
        return process

    def close(self) -> None:
        """Ends the processes, also those that are at work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for process in self._all:
                process.close()

    def __enter__(self) -> "Compilers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Process:
    """One process and its pipes."""

    def __init__(self, for_tpu: bool):
        environment = dict(os.environ)
        if for_tpu:
            environment |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            environment.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
            # Flags for this machine's CPU programs, which would reach the TPU's compiler too.
            environment.pop("XLA_FLAGS", None)
        # Appended to, so that reading it here does not move where the process writes.
        self._log = tempfile.TemporaryFile(mode="a+", encoding="utf-8", errors="replace")  # noqa: SIM115
        read, write = os.pipe()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "albert_jax.plan.compile", str(write)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            text=True,
            pass_fds=(write,),
            env=environment,
        )
        os.close(write)
        self._answers = os.fdopen(read, encoding="utf-8")

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def ask(self, job: Job, known: list[str]) -> dict[str, Any]:
        """The answer to one job. Raises AlbertError for bad input, RuntimeError with the process's last words when it
        ended or failed."""
        fields = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
        line = json.dumps({"job": fields | {"experiment": to_dict(job.experiment)}, "known": known})
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
            answer = self._answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            said = self._said()
            if any(word in said for word in _BUSY):
                raise AlbertError(
                    "libtpu is held by another process of this machine; wait, or set ALLOW_MULTIPLE_LIBTPU_LOAD=1"
                )
            raise RuntimeError(f"the compiling process ended with status {self._child.wait()}:\n{said}")
        found = json.loads(answer)
        if "error" in found:
            raise AlbertError(found["error"])
        if "failure" in found:
            raise RuntimeError(f"compiling failed:\n{found['failure']}\n{self._said()}")
        return found

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-4000:]

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        self._answers.close()
        self._log.close()
