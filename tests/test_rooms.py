"""The house: rooms import only downwards, and importing the package costs nothing."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.quick import listed

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "albert_jax"


def printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()


def test_rooms_import_only_downwards():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_top_level_stays_readable():
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["jax", "numpy", "tensorflow", "torch", "transformers", "wandb", "tensorflow_datasets"]
    assert printed(f"import sys, albert_jax; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_training_needs_no_optional_package():
    heavy = ["tensorflow", "torch", "transformers", "wandb", "apache_beam", "optuna"]
    imports = "import sys, albert_jax.train; from albert_jax.data.corpus import prepare"
    assert printed(f"{imports}; print([name for name in {heavy} if name in sys.modules])") == "[]"


@pytest.mark.parametrize(
    ("file", "extras"), [("requirements.txt", []), ("requirements-dev.txt", ["test", "docs", "dev"])]
)
def test_the_lock_pins_every_need(file, extras):
    def names(needs):
        return {re.match(r"[\w.-]+", need)[0].lower().replace("_", "-") for need in needs}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *(need for extra in extras for need in project["optional-dependencies"][extra])]
    pins = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    assert names(needs) - names(pins) == set(), "run launch/lock.sh"
    assert all("==" in pin for pin in pins)


def test_what_is_not_quick_exists():
    """Else a test that was renamed becomes quick without a word."""
    for line in listed():
        file, _, function = line.partition("::")
        assert f"def {function}" in (ROOT / file).read_text(), f"tests/not_quick.txt: no {line}"
