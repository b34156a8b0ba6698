"""Running the units of `prepare`: in this process, in several, or as an Apache Beam pipeline.

All three call `shards.write_unit` on the same units and so write the same bytes.
"""

import concurrent.futures
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from albert_jax.data.corpus.config import PrepareConfig
from albert_jax.data.corpus.corpora import Unit
from albert_jax.data.corpus.shards import Report, write_unit
from albert_jax.data.store import paths
from albert_jax.data.text.tokenizers import load as load_tokenizer
from albert_jax.errors import extra, retold

_REPORT_SECONDS = 0.25

Units = Mapping[int, Unit]  # by their numbers


def run_here(config: PrepareConfig, units: Units, report: Report) -> None:
    """One unit after the other, in this process."""
    tokenizer = load_tokenizer(paths.vocab_dir(Path(config.out)))
    for unit, segments in units.items():
        write_unit(config, tokenizer, unit, segments, report)


def run_processes(config: PrepareConfig, units: Units, workers: int, report: Report) -> None:
    """`workers` processes. Raises AlbertError that a worker raised, or when one died; finished units are kept."""
    # Spawned, so that they inherit no threads (and no JAX) of this one.
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(units)), context, initializer=_start_worker, initargs=(config, reports)
    )
    died = (
        "a worker process died (out of memory?); finished shards are kept: run the same command again,"
        " perhaps with fewer --workers"
    )
    try:
        with retold(lambda said: died, BrokenProcessPool):
            waiting = {pool.submit(_work, unit, segments) for unit, segments in units.items()}
            while waiting:
                # With a limit on the time, so that progress is shown while no unit is finished.
                done, waiting = concurrent.futures.wait(waiting, _REPORT_SECONDS, concurrent.futures.FIRST_EXCEPTION)
                while not reports.empty():
                    report(*reports.get())
                for future in done:
                    future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Reporter:
    """Sends a worker's counts to the parent, several times a second rather than with every batch."""

    def __init__(self, reports: Any):
        self._reports = reports
        self._pending = (0, 0, 0)
        self._sent = time.monotonic()

    def __call__(self, documents: int, pieces: int, characters: int) -> None:
        waiting = self._pending
        self._pending = (waiting[0] + documents, waiting[1] + pieces, waiting[2] + characters)
        if time.monotonic() - self._sent >= _REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._reports.put(self._pending)
        self._pending = (0, 0, 0)
        self._sent = time.monotonic()


_worker: dict[str, Any] = {}  # of a worker process: config, tokenizer, report


def _start_worker(config: PrepareConfig, reports: Any) -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    tokenizer = load_tokenizer(paths.vocab_dir(Path(config.out)))
    _worker.update(config=config, tokenizer=tokenizer, report=_Reporter(reports))


def _exit_with_parent() -> None:
    # A pool's workers outlive a killed parent and wait for ever; these do not.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # sys.exit would end this thread alone


def _work(unit: int, segments: Unit) -> None:
    write_unit(_worker["config"], _worker["tokenizer"], unit, segments, _worker["report"])
    _worker["report"].flush()


def run_beam(config: PrepareConfig, units: Units) -> None:
    """The units as a Beam pipeline; every machine must see the corpus and the output directory.

    Raises AlbertError when Beam is not installed.
    """
    advice = f"--runner {config.runner} needs Apache Beam: {extra('beam')}"
    with retold(lambda said: advice, ImportError):
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

    with beam.Pipeline(runner=config.runner, options=PipelineOptions(list(config.beam_options))) as pipeline:
        _ = (
            pipeline
            | "units" >> beam.Create(list(units.items()))
            # Without it Beam fuses the steps, and one machine makes all the units.
            | "spread" >> beam.Reshuffle()
            | "write" >> beam.MapTuple(lambda unit, segments: _beam_work(config, unit, segments))
        )


def _beam_work(config: PrepareConfig, unit: int, segments: Unit) -> int:
    # A Beam worker has no initializer, so the first unit of a run loads the vocabulary for those that follow.
    if _worker.get("config") != config:
        _worker.update(config=config, tokenizer=load_tokenizer(paths.vocab_dir(Path(config.out))))
    write_unit(config, _worker["tokenizer"], unit, segments, lambda *amounts: None)
    return unit
