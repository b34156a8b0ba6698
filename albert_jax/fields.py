"""Types of fields that a command line gives as JSON."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import tyro


def _json_mapping(read_value: Callable[[Any], Any], metavar: str) -> tyro.constructors.PrimitiveConstructorSpec:
    """A field given as a JSON object; `read_value` raises TypeError for a value that does not belong there."""

    def read(words: list[str]) -> dict[str, Any]:
        try:
            value = json.loads(words[0])
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error.msg})") from error
        try:
            return {key: read_value(v) for key, v in value.items()}
        except (AttributeError, TypeError) as error:
            raise ValueError(f"expected {metavar}") from error

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return tuple(value)


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


JsonRates = Annotated[dict[str, float], _json_mapping(_rate, '{"PATTERN": FACTOR, ...}')]
JsonSizes = Annotated[dict[str, int], _json_mapping(_size, '{"AXIS": SIZE, ...}')]
JsonNames = Annotated[dict[str, tuple[str, ...]], _json_mapping(_names, '{"AXIS": ["NAME", ...], ...}')]
