"""The text of a compiled program (`compiled.as_text()`) as computations and instructions, and the walk through them.

The program is walked from ENTRY through loop bodies, calls and branches, and an instruction counts as often as loops
around it turn: what stands once in the text may run many times, and what stands many times may run once.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_AFTER = ("async-update", "async-done")  # they name what their async-start runs
_HEAD = re.compile(r"^ +(ROOT )?%?([\w.-]+) = ")


@dataclass(frozen=True)
class Array:
    dtype: str  # XLA's name ("bf16")
    bytes: int  # without padding to tiles
    space: int  # memory space; 0 is the device's memory, others are on the chip


@dataclass(frozen=True)
class Instruction:
    """A line of a computation."""

    name: str
    root: bool  # whether it is the computation's result
    shape: str  # "f32[8,128]{1,0}", or a tuple of such in parentheses
    opcode: str
    operands: tuple[str, ...]  # names, in order
    inside: str  # what stands between the opcode's parentheses
    attributes: str  # what follows them

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        return arrays(self.shape)

    @property
    def memory_bytes(self) -> int:
        """Bytes of its arrays in the device's memory, those on the chip left out."""
        return sum(array.bytes for array in self.arrays if array.space == 0)

    @cached_property
    def called(self) -> tuple[str, ...]:
        """Computations that it runs: not the scalar function of a reduction."""
        keys = "calls|body|true_computation|false_computation" + ("|to_apply" if self.opcode == "call" else "")
        one = re.findall(rf"\b(?:{keys})=%?([\w.-]+)", self.attributes)
        several = re.search(r"\bbranch_computations=\{([^}]*)\}", self.attributes)
        return (*one, *(re.findall(r"[\w.-]+", several[1]) if several else ()))


@dataclass(frozen=True)
class Position:
    """Where in the execution an instruction is met."""

    computation: str  # that it stands in
    executed: int = 1  # times that the computation runs
    depth: int = 0  # loops around it
    loop: str = ""  # name of the innermost of them
    fused: bool = False  # whether it is part of a fusion


class HloText:
    """A program. Raises ValueError for a text without ENTRY."""

    def __init__(self, text: str):
        self.text, self.entry, inside = text, "", ""
        # Lines by computation, parsed when it is first asked for: the scalar functions of reductions and the rest of an
        # asynchronous chain never are.
        self._lines: dict[str, list[str]] = {}
        self._parsed: dict[str, dict[str, Instruction]] = {}
        for line in text.splitlines():
            if line.startswith(("%", "ENTRY ")) and line.endswith("{"):
                inside = re.split(r"[ (]", line.removeprefix("ENTRY ").lstrip("%"), maxsplit=1)[0]
                self._lines[inside] = []
                if line.startswith("ENTRY "):
                    self.entry = inside
            elif line.startswith("}"):
                inside = ""
            elif inside:
                self._lines[inside].append(line)
        if not self.entry:
            raise ValueError("the text holds no ENTRY computation: it is not the text of a compiled program")

    @cached_property
    def devices(self) -> int:
        header = self.text[: self.text.index("\n")]
        counts = [re.search(rf"\b{key}=(\d+)", header) for key in ("num_partitions", "replica_count")]
        return math.prod(int(count[1]) for count in counts if count)

    def computation(self, name: str) -> dict[str, Instruction]:
        """Instructions by name, in order; none for a computation that the text does not hold."""
        if name not in self._parsed:
            found = [read for line in self._lines.get(name, ()) if (read := _read(line))]
            self._parsed[name] = {instruction.name: instruction for instruction in found}
        return self._parsed[name]

    def walk(self, position: Position | None = None) -> Iterator[tuple[Position, Instruction]]:
        """Every instruction that is executed, with its position."""
        # An asynchronous collective of a TPU program is a chain of fusions, `async-collective-start`, some
        # `async_collective_fusion` that work meanwhile, and `async-collective-done`, and it is written again in every
        # one of them: only the start is entered.
        position = position or Position(self.entry)
        for instruction in self.computation(position.computation).values():
            yield position, instruction
            if instruction.opcode == "while":
                turns = position.executed * (self.trips(instruction) or 1)
                yield from self.walk(Position(instruction.called[0], turns, position.depth + 1, instruction.name))
            elif not (instruction.opcode in _AFTER or instruction.name.startswith("async-collective-done")):
                fused = position.fused or instruction.opcode in ("fusion", "async-start")
                for callee in instruction.called:
                    if not callee.startswith("async_collective_fusion"):
                        yield from self.walk(Position(callee, position.executed, position.depth, position.loop, fused))

    def trips(self, loop: Instruction) -> int | None:
        """Turns of a loop that counts up from 0 by 1, which is what `lax.scan` makes; None for another."""
        # A TPU program has no `known_trip_count`: the constant that the condition compares the counter with is read.
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes):
            return int(known[1])
        condition = re.search(r"\bcondition=%?([\w.-]+)", loop.attributes)
        found = list(self.computation(condition[1]).values()) if condition else []
        # The comparison may be wrapped in a fusion, which takes the constant as operand.
        for callee in [name for instruction in found for name in instruction.called]:
            found += self.computation(callee).values()
        bounds = {each.inside for each in found if each.opcode == "constant" and re.match(r"[su]\d+\[\]", each.shape)}
        compared = [each for each in found if each.opcode == "compare"]
        plain = len(bounds) == len(compared) == 1 and "direction=LT" in compared[0].attributes
        return int(bounds.pop()) if plain else None


def _read(line: str) -> Instruction | None:
    if not (head := _HEAD.match(line)):
        return None
    start = head.end()
    end = closing(line, start) + 1 if line[start] == "(" else line.index(" ", start)
    opening = line.index("(", end)
    close = closing(line, opening)
    shape, opcode, inside = line[start:end], line[end + 1 : opening], line[opening + 1 : close]
    operands = tuple(re.findall(r"%([\w.-]+)", inside))
    return Instruction(head[2], bool(head[1]), shape, opcode, operands, inside, line[close + 1 :])


def closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    # Counted, not split at commas: shapes and layouts nest, as in ((f32[4]{0:T(256)}), f32[32]{0}).
    depth = 0
    for found in re.finditer(r"[()]", text[start:]):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return start + found.start()
    return len(text)


def elements(shape: str) -> list[str]:
    """Elements of a tuple's shape, nested tuples whole."""
    parts, depth, start = [], 0, 1
    for index, letter in enumerate(shape):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
        if (letter == "," and depth == 1) or depth == 0:
            parts.append(shape[start:index])
            start = index + 1
    return parts


def arrays(shape: str) -> tuple[Array, ...]:
    """Arrays of a shape; of a tuple, all of them in order, nested ones too."""
    found = []
    for dtype, sizes, layout in re.findall(r"\b([a-z]+[0-9a-z]*)\[([<=\d,]*)\](\{[^}]*\})?", shape):
        space = re.search(r"S\((\d+)\)", layout)
        count = math.prod(int(size.lstrip("<=")) for size in sizes.split(",") if size)
        width = re.search(r"\d+", dtype)  # f8e4m3fn is 8 bits wide, bf16 16, c64 64
        bits = int(width[0]) if width else 8 if dtype == "pred" else 0
        if dtype != "token":
            found.append(Array(dtype, math.ceil(bits * count / 8), int(space[1]) if space else 0))
    return tuple(found)
