"""`pydocs[:PACKAGE,...]` as a corpus of `prepare`: read once into JSON lines, cut like any others.

The docstrings of a file cannot be told from a byte range, and sentences are dropped that occurred before,
so the documents are spooled to `unfinished/` first. Paragraphs with labels come from the same packages, in
the same pass.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from albert_jax.data.corpus.corpora import Segment
from albert_jax.data.store import paths as layout

MIN_WORDS = 12  # of a labelled paragraph: below, there is little to tell its package by


def is_pydocs(corpus: str) -> bool:
    return corpus == "pydocs" or corpus.startswith("pydocs:")


def _packages(corpus: str) -> list[str] | None:
    names = [name for name in corpus.removeprefix("pydocs").removeprefix(":").split(",") if name]
    return names or None


def pydocs_identity(corpora: Sequence[str], digest: str) -> str:
    """`digest` of the other corpora together with the versions of the packages read here."""
    from albert_jax.data.pydocs.sources import package_versions

    wanted = [_packages(corpus) for corpus in corpora if is_pydocs(corpus)]
    versions = [sorted(package_versions(packages).items()) for packages in wanted]
    if not versions:
        return digest
    return hashlib.blake2b((digest + repr(versions)).encode(), digest_size=16).hexdigest()


def spool_pydocs(
    corpora: Sequence[str], directory: Path, validation: float, test: float, workers: int
) -> list[Segment]:
    """Reads the pydocs corpora, unless that was done: DIR/paragraphs, and the documents as JSON lines.

    Args:
        corpora: all corpora of the run; others than pydocs are passed over.
        directory: DIR.
        validation: share of modules held out, for the paragraphs; the documents are divided later.
        test: likewise.
        workers: processes that parse; any number gives the same bytes.

    Returns:
        The spooled documents, one segment a corpus.
    """
    from albert_jax.data.pydocs.extract import read_modules
    from albert_jax.data.pydocs.paragraphs import write_paragraphs

    spools = {
        layout.unfinished_dir(directory) / f"pydocs-{number}.jsonl": _packages(corpus)
        for number, corpus in enumerate(filter(is_pydocs, corpora))
    }
    if not all(path.exists() for path in spools):
        modules = {path: list(read_modules(names, workers=workers)) for path, names in spools.items()}
        paragraphs = (
            paragraph
            for found in modules.values()
            for module in found
            for paragraph in module.labelled_paragraphs(MIN_WORDS)
        )
        write_paragraphs(directory, paragraphs, validation, test)
        for path, found in modules.items():
            lines = (json.dumps(asdict(module.document()), ensure_ascii=False) for module in found)
            layout.write_atomically(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    return [Segment("json", str(path), size=path.stat().st_size) for path in spools]
