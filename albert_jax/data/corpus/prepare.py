"""`python -m albert_jax prepare`: a corpus to a vocabulary and a document store.

    python -m albert_jax prepare --corpus books/*.txt --out data/books --vocab-size 30000

One function, `prepare`, is the whole story; what it writes is listed in `data/store/paths.py`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from albert_jax import fields
from albert_jax.data.corpus import corpora, shards, workers
from albert_jax.data.corpus.config import PrepareConfig, directory_vocabulary, given_vocabulary, single_sentences
from albert_jax.data.corpus.shards import Totals, clear_unfinished, count_units, join_units, remove_unfinished
from albert_jax.data.store import paths
from albert_jax.data.store.documents import split_of
from albert_jax.data.store.summary import Summary
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.files import write_json
from albert_jax.telemetry.progress import PrepareProgress, step

__all__ = ["PrepareConfig", "Summary", "prepare"]

_MEGABYTE = 2**20
_UNITS = 64  # wanted, when the unit size is left open: enough to keep the workers of one machine busy
_SMALLEST_UNIT = 4 * _MEGABYTE  # below, ArrayRecord's padding (some 100 KB a file) would show in the size
_LARGEST_UNIT = 64 * _MEGABYTE  # above, a kill would cost more than half a minute


def prepare(config: PrepareConfig, show_progress: bool = False) -> Summary:
    """Makes `config.out` from `config.corpus`, continues it where it was killed, or says that it is done.

    Raises AlbertError when an argument, the corpus or the disk does not allow it; what was finished before is kept.
    """
    # -- 1. What is asked for, and what exists.
    fields.check(config)
    split_of("", config.validation, config.test)  # raises when both shares together exceed 1
    directory = Path(config.out)
    vocabulary = given_vocabulary(config)
    segments, digest = corpora.gather(config.corpus, config.layout)
    made_from = config.made_from(digest, vocabulary)
    manifest = paths.read_manifest(directory)
    refuse(_begun_differently(directory, manifest, made_from))
    if manifest.get("finished"):
        remove_unfinished(directory)  # in case the run that finished it was killed before it could
        return Summary.of(directory, manifest, already_done=True)

    with _locked(directory):
        # -- 2. From here on the directory is ours: it says what it is being made from.
        if manifest.get("made_from") != made_from:
            clear_unfinished(directory)
        manifest = {"format": paths.FORMAT, "finished": False, "made_from": made_from}
        write_json(directory / paths.MANIFEST, manifest, paths.WRITE_ADVICE)
        cores = config.workers or os.cpu_count() or 1
        with step("reading docstrings", show_progress and any(map(corpora.is_pydocs, config.corpus))):
            segments += corpora.spool_pydocs(config.corpus, directory, config.validation, config.test, cores)
        with step("reading packages", show_progress and any(map(corpora.is_debian, config.corpus))):
            segments += corpora.spool_debian(config.corpus, directory, cores)
        units = corpora.pack(segments, _unit_bytes(config, segments))

        # -- 3. The vocabulary: given, found from a run before, or trained on a sample.
        with step(f"learning a vocabulary of {config.vocab_size:,} pieces", show_progress):
            tokenizer = directory_vocabulary(config, directory, vocabulary, units)

        # -- 4. The shards that are missing. What a killed run has half written goes first.
        for file in paths.unfinished_dir(directory).glob("*.tmp"):
            file.unlink(missing_ok=True)
        missing = {unit: parts for unit, parts in enumerate(units) if not shards.done_file(directory, unit).exists()}
        size = sum(part.size for parts in missing.values() for part in parts)
        with PrepareProgress(size, show_progress) as progress:
            if config.runner != "local":
                workers.run_beam(config, missing)
            elif cores == 1 or len(missing) <= 1:
                workers.run_here(config, missing, progress.report)
            else:
                workers.run_processes(config, missing, cores, progress.report)

        # -- 5. One dataset of them all. The manifest comes last: it says that the rest is complete.
        totals = count_units(directory, len(units))
        refuse(_unusable(config, directory, totals))
        join_units(directory, totals, tokenizer.dtype)
        manifest |= {
            "finished": True,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            "dtype": tokenizer.dtype.name,
            "splits": totals.splits,
            "single_sentence_documents": totals.single,
            "empty_documents": totals.empty,
            "divided_documents": totals.divided,
        }
        write_json(directory / paths.MANIFEST, manifest, paths.WRITE_ADVICE)
        remove_unfinished(directory)
    return Summary.of(directory, manifest)


def _unit_bytes(config: PrepareConfig, segments: Sequence[corpora.Segment]) -> int:
    if config.shard_mb:
        return max(1, int(config.shard_mb * _MEGABYTE))
    total = sum(segment.size for segment in segments)
    return min(max(total // _UNITS, _SMALLEST_UNIT), _LARGEST_UNIT)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Holds `directory` against a second `prepare`."""
    unfinished = paths.unfinished_dir(directory)
    with retold(lambda said: f"{directory}: cannot be written ({said}); give --out another", OSError):
        unfinished.mkdir(parents=True, exist_ok=True)
        lock = open(unfinished / paths.LOCK, "w")  # noqa: SIM115 (held until the end of the run)
    with lock, retold(lambda said: f"{directory}: cannot be written ({said}); {paths.WRITE_ADVICE}", OSError):
        # A lock of the operating system, not a marker file: it ends with the process, even with one that is killed.
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlbertError(f"{directory}: another `prepare` is at work in it; wait for it") from error
        except (ImportError, OSError):
            pass  # no such locks on this system or file system; the user must take care
        yield


def _begun_differently(directory: Path, manifest: dict[str, Any], made_from: dict[str, Any]) -> Iterator[str]:
    if not manifest:
        # Working files are left by a run that was killed before it wrote the manifest, or while it did.
        ours = {paths.unfinished_dir(directory), directory / f"{paths.MANIFEST}.new"}
        if directory.exists() and not (directory.is_dir() and ours.issuperset(directory.iterdir())):
            yield f"{directory}: not a prepared directory and not empty; give --out a new one"
        return
    if not manifest["finished"] and not paths.vocab_dir(directory).exists():
        return  # nothing but the manifest was made, so that starting otherwise loses and mixes nothing
    before = manifest["made_from"]
    for name in dict.fromkeys([*before, *made_from]):
        if name == "corpus" and before["corpus_digest"] == made_from["corpus_digest"]:
            continue  # the same text by another path
        if before.get(name) != made_from.get(name):
            changed = f"{name} was {_shown(before.get(name))} and is {_shown(made_from.get(name))}"
            what = "the text of the corpus is not what it was" if name == "corpus_digest" else changed
            yield (
                f"{directory}: was begun differently: {what}; set it back to continue, give another --out, or"
                " remove the directory"
            )


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else "not given" if value is None else str(value)


def _unusable(config: PrepareConfig, directory: Path, totals: Totals) -> Iterator[str]:
    documents = sum(counts["documents"] for counts in totals.splits.values())
    if documents == 0:
        yield f"{' '.join(config.corpus)}: the corpus is empty: no document has any text"
    if totals.splits["train"]["documents"] == 0:
        yield (
            f"{directory}: all {documents} documents fell into validation and test; give more documents"
            " (blank lines divide them) or smaller --validation and --test, and another --out"
        )
    if totals.single == documents and not config.allow_single_sentences:
        yield single_sentences(documents)
