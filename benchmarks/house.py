"""What the package's text is: files and lines by room, and how much of it refuses input.

    python -m benchmarks.house                         the package here
    python -m benchmarks.house --against ../before     beside another checkout (git worktree add ../before 6e13823)

A line is a comment where nothing else stands on it, docstring where it belongs to a string that is a statement, blank,
or code. "raises" counts lines that begin with raise or assert.
"""

import argparse
import ast
import re
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass
class Count:
    files: int = 0
    lines: int = 0
    code: int = 0
    docstring: int = 0
    comment: int = 0
    blank: int = 0
    raises: int = 0

    def add(self, other: "Count") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def row(self) -> list[str]:
        per_hundred, share = 100 * self.raises / max(self.lines, 1), self.comment / max(self.lines, 1)
        numbers = [self.files, self.lines, self.code, self.docstring, self.comment, self.blank]
        return [f"{number:,}" for number in numbers] + [f"{share:.1%}", f"{self.raises:,}", f"{per_hundred:.2f}"]


def count(path: Path) -> Count:
    text = path.read_text(encoding="utf-8")
    within: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            within |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    found = Count(files=1)
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        found.lines += 1
        kind = (
            "docstring" if number in within else "blank" if not line else "comment" if line[0] == "#" else "code"
        )  # fmt: skip
        setattr(found, kind, getattr(found, kind) + 1)
        found.raises += kind == "code" and re.match(r"(raise|assert)\b", line) is not None
    return found


def rooms(package: Path) -> dict[str, Count]:
    """Counts by folder below the package; the files beside them are the room "(flat)"."""
    found: dict[str, Count] = defaultdict(Count)
    for path in sorted(package.rglob("*.py")):
        found["/".join(path.relative_to(package).parts[:-1]) or "(flat)"].add(count(path))
    return found


def show(root: Path) -> Count:
    table = rooms(root / "albert_jax")
    total = Count()
    headers = ["files", "lines", "code", "docstring", "comment", "blank", "comments", "raises", "per 100 lines"]
    print(f"{'room':20}" + "".join(f"{name:>14}" for name in headers))
    for room, counted in sorted(table.items()):
        total.add(counted)
        print(f"{room:20}" + "".join(f"{cell:>14}" for cell in counted.row))
    print(f"{'all':20}" + "".join(f"{cell:>14}" for cell in total.row))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="root of another checkout")
    asked = parser.parse_args()
    if asked.against is None:
        show(ROOT)
        return
    print("before")
    before = show(asked.against)
    print("\nafter")
    after = show(ROOT)
    print()
    for field in fields(Count):
        old, new = getattr(before, field.name), getattr(after, field.name)
        print(f"{field.name:12}{old:>10,}{new:>10,}{new - old:>+10,}")


if __name__ == "__main__":
    main()
