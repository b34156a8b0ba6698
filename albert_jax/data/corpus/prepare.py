"""`python -m albert_jax prepare`: a corpus to a vocabulary and a document store.

    python -m albert_jax prepare --corpus books/*.txt --out data/books --vocab-size 30000

One function, `prepare`, is the whole story; the layout of what it writes is in `data/layout.py`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from albert_jax.data.corpus import corpora, shards, workers
from albert_jax.data.corpus.config import PrepareConfig
from albert_jax.data.corpus.join import Totals, clear_unfinished, count_units, join_units, remove_unfinished
from albert_jax.data.corpus.pydocs import is_pydocs, pydocs_identity, spool_pydocs
from albert_jax.data.corpus.vocabulary import directory_vocabulary, given_vocabulary, single_sentences
from albert_jax.data.store import paths as layout
from albert_jax.data.store.summary import Summary
from albert_jax.errors import AlbertError
from albert_jax.telemetry.progress import PrepareProgress, step

__all__ = ["PrepareConfig", "Summary", "prepare"]

_MEGABYTE = 2**20
_UNITS = 64  # wanted, when the unit size is left open: enough to keep the workers of one machine busy
_SMALLEST_UNIT = 4 * _MEGABYTE  # below, ArrayRecord's padding (some 100 KB a file) would show in the size
_LARGEST_UNIT = 64 * _MEGABYTE  # above, a kill would cost more than half a minute


def prepare(config: PrepareConfig, show_progress: bool = False) -> Summary:
    """Makes `config.out` from `config.corpus`, continues it where it was killed, or says that it is done.

    Raises:
        AlbertError: an argument, the corpus or the disk does not allow it; what was finished before is kept.
    """
    # -- 1. What is asked for, and what is there.
    config.check()
    directory = Path(config.out)
    vocabulary = given_vocabulary(config)
    files = [corpus for corpus in config.corpus if not is_pydocs(corpus)]
    segments, digest = corpora.gather(files, config.layout) if files else ([], "")
    digest = pydocs_identity(config.corpus, digest)
    made_from = config.made_from(digest, vocabulary)
    manifest = layout.read_manifest(directory)
    if manifest is not None and _has_content(directory, manifest):
        _check_same(directory, manifest["made_from"], made_from)
        if manifest["finished"]:
            remove_unfinished(directory)  # in case the run that finished it was killed before it could
            return Summary.of(directory, manifest, already_done=True)
    elif manifest is None and directory.exists() and not _is_empty(directory):
        raise AlbertError(f"{directory}: not a prepared directory and not empty; give --out a new one")

    with _locked(directory):
        # -- 2. From here on the directory is ours: it says what it is being made from.
        if manifest is None or manifest["made_from"] != made_from:
            clear_unfinished(directory)
        layout.write_json(
            directory / layout.MANIFEST, {"format": layout.FORMAT, "finished": False, "made_from": made_from}
        )
        cores = config.workers or os.cpu_count() or 1
        with step("reading docstrings", show_progress and len(files) < len(config.corpus)):
            spooled = spool_pydocs(config.corpus, directory, config.validation, config.test, cores)
        units = corpora.pack([*segments, *spooled], _unit_bytes(config, [*segments, *spooled]))

        # -- 3. The vocabulary: given, found from a run before, or trained on a sample.
        with step(f"learning a vocabulary of {config.vocab_size:,} pieces", show_progress):
            tokenizer = directory_vocabulary(config, directory, vocabulary, units)

        # -- 4. The shards that are not there yet.
        shards.remove_temporary(directory)
        job = shards.Job(directory, config.validation, config.test, config.max_document_pieces)
        missing = {unit: parts for unit, parts in enumerate(units) if not shards.done_file(directory, unit).exists()}
        size = sum(part.size for parts in missing.values() for part in parts)
        with PrepareProgress(size, show_progress) as progress:
            if config.runner != "local":
                workers.run_beam(job, missing, config.runner, config.beam_options)
            elif cores == 1 or len(missing) <= 1:
                workers.run_here(job, missing, progress.report)
            else:
                workers.run_processes(job, missing, cores, progress.report)

        # -- 5. One dataset of them all.
        totals = count_units(directory, len(units))
        _check_totals(config, directory, totals)
        join_units(directory, totals, tokenizer.dtype)
        manifest = {
            "format": layout.FORMAT,
            "finished": True,
            "made_from": made_from,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            "dtype": tokenizer.dtype.name,
            "splits": totals.splits,
            "single_sentence_documents": totals.single,
            "empty_documents": totals.empty,
            "divided_documents": totals.divided,
        }
        layout.write_json(directory / layout.MANIFEST, manifest)
        remove_unfinished(directory)
    return Summary.of(directory, manifest)


# ------------------------------------------------------------------------------------------------- checks


def _has_content(directory: Path, manifest: dict[str, Any]) -> bool:
    """Whether anything but the manifest was made, so that starting otherwise would lose or mix something."""
    return manifest["finished"] or layout.vocab_dir(directory).exists()


def _is_empty(directory: Path) -> bool:
    """Of anything but working files, which a run may leave that was killed before it wrote the manifest."""
    unfinished = layout.unfinished_dir(directory)
    return directory.is_dir() and all(entry == unfinished for entry in directory.iterdir())


def _check_same(directory: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in dict.fromkeys([*before, *now]):
        if name == "corpus" and before["corpus_digest"] == now["corpus_digest"]:
            continue  # the same text by another path
        if before.get(name) != now.get(name):
            if name == "corpus_digest":
                what = "the text of the corpus is not what it was"
            else:
                what = f"{name} was {_shown(before.get(name))} and is {_shown(now.get(name))}"
            raise AlbertError(
                f"{directory}: was begun differently: {what}; set it back to continue, give another --out, or"
                " remove the directory"
            )


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else "not given" if value is None else str(value)


def _check_totals(config: PrepareConfig, directory: Path, totals: Totals) -> None:
    documents = totals.documents
    if documents == 0:
        raise AlbertError(f"{' '.join(config.corpus)}: the corpus is empty: no document has any text")
    if totals.splits["train"]["documents"] == 0:
        raise AlbertError(
            f"{directory}: all {documents} documents fell into validation and test; give more documents"
            " (blank lines divide them) or smaller --validation and --test, and another --out"
        )
    if totals.single == documents and not config.allow_single_sentences:
        raise single_sentences(documents)


# ------------------------------------------------------------------------------------------------- steps


def _unit_bytes(config: PrepareConfig, segments: Sequence[corpora.Segment]) -> int:
    if config.shard_mb:
        return max(1, int(config.shard_mb * _MEGABYTE))
    total = sum(segment.size for segment in segments)
    return min(max(total // _UNITS, _SMALLEST_UNIT), _LARGEST_UNIT)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Holds `directory` against a second `prepare`; a killed process lets go of it."""
    unfinished = layout.unfinished_dir(directory)
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        lock = open(unfinished / layout.LOCK, "w")  # noqa: SIM115 (held until the end of the run)
    except OSError as error:
        raise AlbertError(f"{directory}: cannot be written ({error.strerror}); give --out another") from error
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlbertError(f"{directory}: another `prepare` is at work in it; wait for it") from error
        except (ImportError, OSError):
            pass  # no such locks on this system or file system; the user must take care
        try:
            yield
        except OSError as error:
            raise layout.cannot_write(directory, error) from error
