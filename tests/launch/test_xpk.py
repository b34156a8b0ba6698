"""The command that launch/gke_xpk.sh gives xpk, taken by the real xpk in a dry run: launch/test_xpk.sh brings xpk."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.launch.drill import GKE
from tests.launch.dry_runs import GOLDEN, NO_CLOUD, ROOT

pytestmark = pytest.mark.skipif("XPK" not in os.environ, reason="xpk has an environment of its own: launch/test_xpk.sh")


def ours(words: str) -> list[str]:
    """The words after `xpk` in the dry run of launch/gke_xpk.sh."""
    command = ["launch/gke_xpk.sh", *words.split(), "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, env=NO_CLOUD, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("xpk workload "))
    return shlex.split(line)[1:]


def dry(place: Path, *words: str) -> subprocess.CompletedProcess:
    """xpk's own dry run, in a directory without anything of the user's."""
    return subprocess.run(
        [ROOT / os.environ["XPK"], *words, "--project-number", "1", "--dry-run", "--skip-validation"],
        cwd=place,
        env=os.environ | {"HOME": str(place), "CLOUDSDK_CONFIG": str(place), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def manifest(place: Path) -> str:
    """What xpk would give Kubernetes for the workload of the drills."""
    words = ours(f"{GKE} --project p")
    (place / words[words.index("--script-dir") + 1]).mkdir(parents=True)
    done = dry(place, *words, "--output-manifest-file", "manifest.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return (place / "manifest.yaml").read_text()


def test_xpk_makes_the_stored_manifest(tmp_path):
    stored = (GOLDEN / "xpk_manifest.yaml").read_text()
    assert manifest(tmp_path) == stored, "if the change is meant: launch/test_xpk.sh --update"


@pytest.mark.parametrize("more", ["--spot --slices 2 --storage corpora", "--type v6e-64 --zone us-east5-b", "--delete"])
def test_xpk_takes_every_word_we_give(more, tmp_path):
    words = ours(f"{GKE} --project p {more}")
    if "--script-dir" in words:
        (tmp_path / words[words.index("--script-dir") + 1]).mkdir(parents=True)
    done = dry(tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage:" not in done.stderr


def test_xpk_knows_the_slices_we_know():
    """All but those that are part of a host, which xpk has not."""
    rows = [line.split("\t") for line in (ROOT / "launch/tpus.tsv").read_text().splitlines() if line[0] != "#"]
    ours = {f"{family}-{size}" for family, _, sizes, _ in rows for size in sizes.split(",")}
    code = "from xpk.core.system_characteristics import UserFacingNameToSystemCharacteristics as known; print(*known)"
    python = (ROOT / os.environ["XPK"]).parent / "python"
    theirs = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert ours - set(theirs) == {"v5litepod-1", "v5litepod-4"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        (GOLDEN / "xpk_manifest.yaml").write_text(manifest(Path(place)))
