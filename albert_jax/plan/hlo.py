"""What a compiled program does, read off its text: collectives, loops, traffic between chip and memory.

What it knows of TPU programs, here and in `albert_jax.plan.hlo_text`, is read off those of libtpu 0.0.42, jax 0.10.2.
"""

import math
import re
from dataclasses import dataclass

from albert_jax.plan.hlo_text import Array, HloText, Instruction, arrays, elements

KINDS = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
    "collective-broadcast", "send",
)  # fmt: skip


@dataclass(frozen=True)
class Loop:
    """A `while` of the program."""

    name: str  # of the instruction
    trips: int | None  # turns each time it is entered; None when the condition compares with no constant
    executed: int  # turns in the whole program, the loops around it included (unknown trips counted as 1)
    depth: int  # loops around it, itself included
    windowed: bool  # a matrix product that XLA has cut into steps of a ring (`windowed_dot_general_body`)


@dataclass(frozen=True)
class Collective:
    """A transfer between devices, as it stands once in the program."""

    kind: str  # one of KINDS; the asynchronous forms under the plain name, `recv` left out (its `send` is counted)
    name: str  # of the instruction
    # Of the whole array that one execution gathers, reduces or moves: the result, or the operand where that is larger
    # (reduce-scatter), summed over a tuple.
    bytes: int
    dtype: str  # XLA's name of it ("f32"); of a tuple of several, joined by "+"
    group: int  # devices that take part together; 0 where the text does not say
    executed: int  # times it runs in the whole program
    depth: int  # loops around it
    loop: str  # name of the innermost loop, "" outside
    dcn: bool  # over the data-centre network, to another slice

    @property
    def in_loop(self) -> bool:
        return self.depth > 0


def collectives(text: str | HloText) -> list[Collective]:
    """Every collective that the program executes, in the order of the walk. Branches of a conditional all count."""
    program = HloText(text) if isinstance(text, str) else text
    found = []
    for position, instruction in program.walk():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        # What goes to another slice is a `send` to the host whose handler is the megascale runtime.
        dcn = '_xla_host_transfer_handler_name="xla_megascale_runtime"' in instruction.attributes
        if kind == "send" and "is_host_transfer=true" in instruction.attributes and not dcn:
            continue  # to the program's own host: infeed, callbacks
        group = _group(instruction.attributes, program.devices)
        moved = _payload(kind, instruction)
        size = sum(array.bytes for array in moved)
        # On TPUs a reduce-scatter is a fusion of this name around an all-reduce of the whole, padded operand.
        if kind == "all-reduce" and position.computation.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"
        elif kind == "reduce-scatter":
            size *= max(group, 1)
        dtype = "+".join(sorted({array.dtype for array in moved if array.bytes}))
        executed, depth, loop = position.executed, position.depth, position.loop
        found.append(Collective(kind, instruction.name, size, dtype, group, executed, depth, loop, dcn))
    return found


def while_loops(text: str | HloText) -> list[Loop]:
    """Every loop that the program enters, outer before inner."""
    program = HloText(text) if isinstance(text, str) else text
    found = []
    for position, instruction in program.walk():
        if instruction.opcode == "while":
            trips = program.trips(instruction)
            windowed = "windowed_dot_general_body" in instruction.attributes  # the body's name, or metadata
            found.append(Loop(instruction.name, trips, position.executed * (trips or 1), position.depth + 1, windowed))
    return found


def _payload(kind: str, instruction: Instruction) -> tuple[Array, ...]:
    if instruction.shape.startswith("("):
        if kind == "send":  # (payload, context, token)
            return instruction.arrays[:1]
        if instruction.opcode in ("all-gather-start", "collective-permute-start"):  # (operands, results, contexts)
            return arrays(elements(instruction.shape)[1])
    return instruction.arrays


def _group(attributes: str, devices: int) -> int:
    """Devices in one group of a collective."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes):
        return int(found[2])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']*)'=(\d+)", found[1])}
        # An axis stands whole, or as 'axis':(before)size where only a part of it takes part.
        parts = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part) if part else sizes[name] for name, part in parts)
    return devices if "replica_groups={}" in attributes else 0


# ---- traffic between chip and memory

# These move nothing themselves: other names for an array, or the second half of a transfer.
_STILL = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "conditional", "call", "copy-done",
          "slice-done", "after-all", "partition-id", "replica-id", "opt-barrier", "async-start", "async-update",
          "async-done", "send", "send-done", "recv", "recv-done"}  # fmt: skip
_FREE_CALLS = re.compile('custom_call_target="(?:AllocateBuffer|ConcatBitcast)"')  # an allocation, and a view
_SLICES = ("dynamic-slice", "slice", "gather")
_ALIKE = ("bitcast", "copy", "convert", "reshape")


def memory_traffic(text: str | HloText) -> int:
    """Bytes that one device moves between its memory and the chip in the whole program: every operation outside fusions
    reads its operands once and writes its results once, arrays that live on the chip left out. What a fusion only
    slices counts by the slice, what it updates in place by the update. Collectives are left out."""
    # A lower bound: tiling may read an operand of a matrix product more than once.
    program = HloText(text) if isinstance(text, str) else text
    total = 0
    for position, instruction in program.walk():
        collective = instruction.opcode.startswith(("all-", "reduce-scatter", "collective-", "ragged-"))
        if position.fused or collective or instruction.opcode in _STILL or _FREE_CALLS.search(instruction.attributes):
            continue
        total += position.executed * _moved(program, position.computation, instruction)
    return total


def _moved(program: HloText, computation: str, instruction: Instruction) -> int:
    around = program.computation(computation)
    operands = [around[name] for name in instruction.operands if name in around]
    if instruction.opcode == "fusion":
        return _fusion_moved(program, instruction, operands)
    if instruction.opcode in ("copy-start", "slice-start"):  # from one memory space to another, by the smaller side
        sides = [array for part in elements(instruction.shape)[:2] for array in arrays(part)]
        return min(array.bytes for array in sides) * sum(array.space == 0 for array in sides)
    written = instruction.memory_bytes
    if instruction.opcode in _SLICES:
        return 2 * written
    if instruction.opcode == "dynamic-update-slice":
        return 2 * sum(array.bytes for array in operands[1].arrays)
    return written + sum(operand.memory_bytes for operand in operands)


def _fusion_moved(program: HloText, fusion: Instruction, operands: list[Instruction]) -> int:
    body = program.computation(fusion.called[0])
    root = next(each for each in body.values() if each.root)
    roots = [body[name] for name in root.operands] if root.opcode == "tuple" else [root]
    total, updated = 0, set()
    for result, array in zip(roots, fusion.arrays, strict=False):
        source = _unwrapped(body, result)
        # An update in place writes the update, and its operand is read no further.
        if source.opcode == "dynamic-update-slice":
            updated.add(_unwrapped(body, body[source.operands[0]]).name)
            result = body[source.operands[1]]
        total += sum(part.bytes for part in result.arrays) if array.space == 0 else 0
    parameters = {int(each.inside): each.name for each in body.values() if each.opcode == "parameter"}
    for index, operand in enumerate(operands):
        name = parameters.get(index, "")
        if whole := operand.memory_bytes:
            users = _users(body, name)
            slices = sum(array.bytes for user in users if user.opcode in _SLICES for array in user.arrays)
            apart = name in updated or all(user.opcode in _SLICES for user in users)
            total += min(whole, slices) if apart else whole
    return total


def _unwrapped(body: dict[str, Instruction], instruction: Instruction) -> Instruction:
    """What an instruction is before reshapes and conversions."""
    while instruction.opcode in _ALIKE and instruction.operands[0] in body:
        instruction = body[instruction.operands[0]]
    return instruction


def _users(body: dict[str, Instruction], name: str) -> list[Instruction]:
    """Instructions of a fusion that use a value, through bitcasts."""
    found = []
    for user in body.values():
        if name in user.operands:
            found += _users(body, user.name) if user.opcode == "bitcast" else [user]
    return found
