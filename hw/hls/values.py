"""A kernel's arguments and results as it takes them, and as the flat numbers that hardware has."""

from collections.abc import Mapping
from typing import Any

from kernels.types import Boolean, Group, Kernel, KernelType, Leaf, Shape


def nested(kind: KernelType, name: str, flat: Mapping[str, int]) -> Any:
    """Return the value of a type whose scalars are given by name."""
    if isinstance(kind, Group):
        items = [nested(inner, f"{name}_{item}", flat) for item, inner in kind.items]
        return tuple(items) if kind.record is None else kind.record(*items)
    return bool(flat[name]) if isinstance(kind, Boolean) else flat[name]


def flattened(kind: KernelType, name: str, value: Any) -> dict[str, int]:
    """Return the scalars of a value by name."""
    if isinstance(kind, Group):
        found: dict[str, int] = {}
        for (item, inner), each in zip(kind.items, value, strict=True):
            found |= flattened(inner, f"{name}_{item}", each)
        return found
    return {name: int(value)}


def arguments(kernel: Kernel[..., Any], flat: Mapping[str, int]) -> list[Any]:
    """Return the arguments of a kernel from their scalars."""
    return [nested(kind, name, flat) for name, kind in kernel.parameters.items()]


def results(kernel: Kernel[..., Any], value: Any) -> dict[str, int]:
    """Return the scalars of what a kernel returned."""
    return flattened(kernel.result, "result", value)


def argument_leaves(kernel: Kernel[..., Any]) -> dict[str, Leaf]:
    """Return the type of each scalar that a kernel takes, by name."""
    return {
        leaf: kind for name, group in kernel.parameters.items() for leaf, kind in group.leaves(name)
    }


def result_leaves(kernel: Kernel[..., Any]) -> dict[str, Leaf]:
    """Return the type of each scalar that a kernel returns, by name."""
    return dict(kernel.result.leaves("result"))


def is_signed(kind: Leaf) -> bool:
    """Return whether a scalar type has a sign."""
    return isinstance(kind, Shape) and kind.signed


def width(kind: Leaf) -> int:
    """Return the bits of a scalar type."""
    return kind.width if isinstance(kind, Shape) else 1
