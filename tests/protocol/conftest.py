"""Vectors, readers and mutants for the tests of this folder."""

import dataclasses
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from protocol.emit import CATALOGUE
from protocol.layout import Field, Layout


def _module(name: str) -> ModuleType:
    # Test folders are no packages, so a neighbour is loaded by its path.
    spec = importlib.util.spec_from_file_location(
        f"tests_protocol_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


_VECTORS = _module("vectors")
_READERS = _module("readers")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A layout in which the boundary in front of one field was moved by one byte.

    ``moved`` are the names of the two fields that touch there.
    """

    name: str
    original: str
    layout: Layout
    moved: frozenset[str]


def _mutants() -> Iterator[Mutant]:
    for name, layout in CATALOGUE.items():
        for index in range(1, len(layout.fields)):
            before, after = layout.fields[index - 1 : index + 1]
            for shift in (1, -1):
                pair = _moved(before, after, shift)
                if pair is None:
                    continue
                fields = (*layout.fields[: index - 1], *pair, *layout.fields[index + 1 :])
                yield Mutant(
                    f"{name}__{after.name}__{'later' if shift == 1 else 'earlier'}",
                    name,
                    dataclasses.replace(layout, fields=fields),
                    frozenset({before.name, after.name}),
                )


def _moved(before: Field, after: Field, shift: int) -> tuple[Field, Field] | None:
    """Return the two fields with their boundary moved; two of one byte are exchanged."""
    if before.length == after.length == 1:
        if shift < 0:
            return None
        return (
            dataclasses.replace(after, offset=before.offset),
            dataclasses.replace(before, offset=after.offset),
        )
    if before.length + shift < 1 or after.length - shift < 1:
        return None
    return (
        dataclasses.replace(before, length=before.length + shift),
        dataclasses.replace(after, offset=after.offset + shift, length=after.length - shift),
    )


MUTANTS = tuple(_mutants())


@pytest.fixture(params=_VECTORS.VECTORS, ids=lambda vector: vector.name)
def vector(request: pytest.FixtureRequest) -> Any:
    """Each of the hand-packed vectors."""
    return request.param


@pytest.fixture(params=MUTANTS, ids=lambda mutant: mutant.name)
def mutant(request: pytest.FixtureRequest) -> Mutant:
    """Each layout with one boundary moved."""
    return request.param


@pytest.fixture(params=_READERS.READERS.values(), ids=_READERS.READERS)
def reader(request: pytest.FixtureRequest) -> Any:
    """Each way to read bytes with a layout, except C."""
    return request.param


@pytest.fixture(scope="session")
def readers() -> dict[str, Any]:
    """All ways to read bytes with a layout by name, except C."""
    return dict(_READERS.READERS)


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """The hand-packed vectors by name."""
    return dict(_VECTORS.BY_NAME)


@pytest.fixture(scope="session")
def read_with_c() -> Any:
    """A function that reads inputs with a compiled C program; skips without a compiler."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: cc is not on PATH")
    return _READERS.read_with_c


@pytest.fixture(scope="session")
def c_readings(
    read_with_c: Any, vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What C reads from each vector, with the layouts and with every mutant; compiled once."""
    inputs = {name: (CATALOGUE[name], item.raw) for name, item in vectors.items()}
    inputs |= {item.name: (item.layout, vectors[item.original].raw) for item in MUTANTS}
    return read_with_c(inputs, tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="session")
def all_mutants() -> tuple[Mutant, ...]:
    """Every layout with one boundary moved."""
    return MUTANTS


@pytest.fixture(scope="session")
def cpp_compiler() -> str:
    """The C++ compiler; skips without one."""
    found = shutil.which("c++") or shutil.which("g++")
    if found is None:
        pytest.skip("no C++ compiler: neither c++ nor g++ is on PATH")
    return found
