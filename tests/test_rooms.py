"""The house: rooms import only downwards, and importing the package costs nothing."""

import subprocess
import sys
from pathlib import Path

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
