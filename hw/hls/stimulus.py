"""Arguments at which kernels are compared with what was made of them."""

import random
from typing import Any

from hw.hls.front import read
from kernels.types import Kernel

Numbers = dict[str, int]
"""Scalars by name."""
_CORNERS_MAX = 64


def stimulus(kernel: Kernel[..., Any], count: int, seed: int) -> list[Numbers]:
    """Return argument sets: those at which kernels break first, then random ones.

    An argument is at an end of its type, near 0, near a constant of the kernel or a power of two,
    near another argument, or anywhere, small numbers as often as large ones.
    """
    graph = read(kernel)
    chance = random.Random(seed)
    limits = {arg.name: (arg.lo, arg.hi) for arg in graph.args}
    constants = {node.lo for node in graph.nodes if node.is_const}
    near = sorted({at + step for at in constants for step in (-1, 0, 1)})

    def clipped(name: str, value: int) -> int:
        lo, hi = limits[name]
        return min(max(value, lo), hi)

    def drawn(name: str, others: Numbers) -> int:
        lo, hi = limits[name]
        match chance.randrange(6):
            case 0:
                return chance.choice((lo, hi, lo + 1, hi - 1) if hi - lo > 1 else (lo, hi))
            case 1:
                return clipped(name, chance.choice(near))
            case 2 if others:
                return clipped(name, chance.choice(list(others.values())) + chance.randint(-1, 1))
            case 3:
                power = 1 << chance.randrange(max(hi.bit_length(), 1))
                return clipped(name, chance.choice((power, -power)) + chance.randint(-1, 0))
            case 4:
                size = chance.randrange(max(hi, -lo).bit_length() + 1)
                return clipped(name, chance.choice((1, -1)) * chance.getrandbits(size + 1))
        return chance.randint(lo, hi)

    found: list[Numbers] = []
    for corner in near[:_CORNERS_MAX]:
        found.append({name: clipped(name, corner) for name in limits})
    found.append({name: lo for name, (lo, _) in limits.items()})
    found.append({name: hi for name, (_, hi) in limits.items()})
    while len(found) < count:
        values: Numbers = {}
        for name in chance.sample(list(limits), len(limits)):
            values[name] = drawn(name, values)
        found.append({name: values[name] for name in limits})
    return found[:count]
