"""The house: rooms import only downwards, and importing the package costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "albert_jax"

# Lowest first; a module may import from its own floor and from those before it.
FLOORS = [
    {"errors"},
    {"cli", "stopping", "summary", "watch", "host_memory", "devices", "hlo_text", "processes", "agreement", "mirror"}
    | {"safetensors"},
    {"data", "progress", "throughput", "charts", "page", "topology", "hlo"},
    {"records"},
    {"model", "optim", "telemetry", "report", "roofline"},
    {"sharding", "converted"},
    {"tasks"},
    {"state"},
    {"step", "checkpoint"},
    {"experiment", "compare"},
    {"interop"},
    {"start"},
    {"evaluate", "inspect", "bench"},
    {"predict", "train", "ahead", "space"},
    {"predict_files", "seeds", "search", "compilers"},
    {"plan_search"},
    {"plan"},
    {"plan_report"},
    {"__main__", "__init__"},
]


def imported(path: Path) -> set[str]:
    """Rooms of ours that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "albert_jax":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("albert_jax.")}
    return {name for name in found if not name.startswith("__")}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_file_has_a_floor():
    known = set().union(*FLOORS)
    assert {room(path) for path in PACKAGE.rglob("*.py")} == known


def test_rooms_import_only_downwards():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in imported(path)
        if floor[name] > floor[room(path)]
    ]
    assert upwards == []


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["jax", "numpy", "tensorflow", "torch", "transformers", "wandb", "tensorflow_datasets"]
    code = f"import sys, albert_jax; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_training_needs_no_optional_package():
    heavy = ["tensorflow", "torch", "transformers", "wandb", "apache_beam", "optuna"]
    code = f"import sys, albert_jax.train, albert_jax.data.prepare; print([n for n in {heavy} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
