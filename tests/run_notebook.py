"""Runs a notebook's code cells one after the other, as a kernel would, without one.

    python tests/run_notebook.py colab/pretrain.ipynb '{"STEPS": 12}'

Names in the JSON replace those of the cell tagged "parameters". What the notebook displays is kept in the current
directory as shown-N.png.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")


def run(path: str, parameters: dict[str, Any]) -> None:
    """Raises what a cell raises, and AssertionError where the last cell displays nothing."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    shown: list[str] = []  # by cell

    def display(picture: Any) -> None:
        save = getattr(picture, "savefig", None) or picture.save
        save(f"shown-{len(shown)}.png")
        shown.append(cell["id"])

    names: dict[str, Any] = {"__name__": "__main__", "display": display}
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        exec(compile("".join(cell["source"]), f"{Path(path).name}[{cell['id']}]", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            unknown = sorted(set(parameters) - set(names))
            assert not unknown, f"{path} has no parameters {unknown}"
            names |= parameters
    assert shown and shown[-1] == cell["id"], f"{path} does not end in a picture"


if __name__ == "__main__":
    run(sys.argv[1], json.loads(sys.argv[2]))
    heavy = sorted({"tensorflow", "torch"} & set(sys.modules))
    assert not heavy, f"imported by the notebook: {heavy}"
