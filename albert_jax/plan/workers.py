"""Processes that compile: started with a clean environment, what libtpu prints kept off the terminal."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any

from albert_jax.errors import AlbertError
from albert_jax.experiment import own_config, to_dict
from albert_jax.plan.compile import Job, Program
from albert_jax.plan.topology import BUSY, is_busy


class Compilers(AbstractContextManager):
    """Up to `count` processes of `albert_jax.plan.compile`, each started when it is first needed."""

    # A compilation keeps one core busy and takes one to two GiB.
    def __init__(self, count: int = 0, known: dict[str, Program] | None = None):
        # By key, and not compiled again; every new program joins them.
        self.known: dict[str, Program] = {} if known is None else known
        # Every thread of the pool keeps a process of its own and waits for its answers.
        self._pool = ThreadPoolExecutor(count or min(os.cpu_count() or 1, 4))
        self._own = threading.local()
        self._processes: list[_Process] = []

    def submit(self, job: Job) -> Future[Program]:
        """The job's program, once it is compiled. Its result raises what `compile_step` raises."""
        return self._pool.submit(self._run, job)

    def _run(self, job: Job) -> Program:
        process = getattr(self._own, "process", None)
        if process is None or process.child.poll() is not None:
            process = self._own.process = _Process(bool(job.topology))
            self._processes.append(process)
        # A program that is known has no text to write, so a job that asks for it is compiled in any case.
        answer = process.ask(job, [] if job.hlo else list(self.known))
        if "known" in answer:
            return self.known[answer["known"]]
        program = Program.from_dict(answer["program"])
        self.known[program.key] = program
        return program

    def __exit__(self, *error: object) -> None:
        """Ends the processes, also those that are at work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()


class _Process:
    def __init__(self, for_tpu: bool):
        environment = dict(os.environ)
        if for_tpu:
            environment |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            environment.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
            # Flags for this machine's CPU programs, which would reach the TPU's compiler too.
            environment.pop("XLA_FLAGS", None)
        # Appended to, so that reading it here does not move where the process writes.
        self._log = tempfile.TemporaryFile(mode="a+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # Answers have a pipe of their own, whatever libtpu prints to standard output.
        read, write = os.pipe()
        self.child = subprocess.Popen(
            [sys.executable, "-m", "albert_jax.plan.compile", str(write)],
            stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, text=True, pass_fds=(write,), env=environment,
        )  # fmt: skip
        os.close(write)
        self._answers = os.fdopen(read, encoding="utf-8")

    def ask(self, job: Job, known: list[str]) -> dict[str, Any]:
        """The answer to one job. Raises AlbertError for bad input, RuntimeError with the process's last words when it
        ended or failed."""
        fields, own = vars(job) | {"experiment": to_dict(job.experiment)}, own_config(job.experiment)
        line = json.dumps({"job": fields, "known": known, "own_config": str(own or "")})
        answer = ""
        with suppress(BrokenPipeError):
            print(line, file=self.child.stdin, flush=True)
            answer = self._answers.readline()
        # None from a process that has ended, which libtpu's does when another process holds it.
        if not answer:
            log = self._read_log()
            if is_busy(log):
                raise AlbertError(BUSY)
            raise RuntimeError(f"the compiling process ended with status {self.child.wait()}:\n{log}")
        found = json.loads(answer)
        if "error" in found:
            raise AlbertError(found["error"])
        if "failure" in found:
            raise RuntimeError(f"compiling failed:\n{found['failure']}\n{self._read_log()}")
        return found

    def _read_log(self) -> str:
        self._log.seek(0)
        return self._log.read()[-4000:]

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        self._answers.close()
        self._log.close()
