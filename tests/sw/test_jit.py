"""Compiled functions: types without a way to floats, kernels as they stand, arrays by address."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest

import sw.jit
from kernels.types import U8, Bool, kernel
from sw.jit import (
    acquire,
    array_at,
    dtype_of,
    entry,
    inlined,
    jit,
    prefetch,
    read_8,
    read_16,
    read_32,
    read_64,
    release,
)

ROOT = Path(__file__).resolve().parents[2]


class Pair(NamedTuple):
    number: U8
    flag: Bool


@kernel
def larger(a: U8, b: U8) -> Bool:
    return a > b


@jit
def first_is_larger(address: int) -> bool:
    array = array_at(address, 2, np.int64)
    return larger(array[0], array[1])


def test_record_becomes_integers_of_64_bits_and_truth_values():
    kind = dtype_of(Pair)
    assert [kind[name] for name in Pair._fields] == [np.dtype(np.int64), np.dtype(np.bool_)]
    with pytest.raises(TypeError, match=r"^record must be a NamedTuple, not Bool$"):
        dtype_of(bool)


@pytest.mark.parametrize(("values", "found"), [((3, 2), True), ((2, 2), False), ((0, 255), False)])
def test_kernel_is_called_on_an_array_that_stands_at_an_address(values, found):
    array = np.array(values, np.int64)
    call = entry(first_is_larger, array.ctypes.data)
    assert call(array.ctypes.data) is found
    assert first_is_larger(array.ctypes.data) is found


def cache_folder(**environment: str) -> str:
    code = "import numba, sw.jit; print(numba.config.CACHE_DIR)"
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


def test_cache_is_the_user_s_and_named_after_the_sources(tmp_path):
    folder = Path(cache_folder(XDG_CACHE_HOME=str(tmp_path)))
    assert folder.parent == tmp_path / "tickwire"
    assert len(folder.name) == 16
    assert folder.is_dir()


def test_without_a_place_for_a_cache_there_is_none(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert cache_folder(XDG_CACHE_HOME=str(file)) == ""


def test_prefetch_is_one_instruction_and_changes_nothing():
    array = np.arange(16)
    prefetch(array.ctypes.data)
    prefetch(0)  # Nothing is read, so no address is a wrong one.
    assert array.tolist() == list(range(16))
    anew = numba.njit(prefetch.py_func)  # What comes from the cache can not be inspected.
    anew(array.ctypes.data)
    (code,) = anew.inspect_llvm().values()
    assert "@llvm.prefetch.p0(" in code


@jit
def numbers_at(address: int) -> tuple[int, int, int, int]:
    return read_8(address), read_16(address), read_32(address), read_64(address)


@pytest.mark.parametrize("call", [numbers_at, numbers_at.py_func])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_numbers_of_the_wire_are_read_at_any_address_without_their_sign(call, place, monkeypatch):
    array = np.frombuffer(bytes((*bytes(place), 0xF1, 2, 3, 4, 5, 6, 7, 8)), np.uint8)
    if call is not numbers_at:
        for bits in (8, 16, 32, 64):
            monkeypatch.setitem(call.__globals__, f"read_{bits}", getattr(sw.jit, f"_read_{bits}"))
    found = call(array.ctypes.data + place)
    assert found == (0xF1, 0xF102, 0xF102_0304, 0xF102_0304_0506_0708 - (1 << 64))


@jit
def hand_over(address: int, value: int) -> int:
    release(address, value)
    return acquire(address) + 1


def test_shared_words_are_stored_and_loaded_in_an_order_that_is_kept():
    array = np.zeros(2, np.int64)
    assert hand_over(array.ctypes.data + 8, -7) == -6
    assert array.tolist() == [0, -7]
    anew = numba.njit(hand_over.py_func)
    anew(array.ctypes.data, 5)
    (code,) = anew.inspect_llvm().values()
    assert "store atomic" in code
    assert "load atomic" in code
    assert "release" in code
    assert "acquire" in code


@inlined
def doubled(number: int) -> int:
    return 2 * number


def test_inlined_function_leaves_no_call_in_its_caller():
    @numba.njit
    def caller(number: int) -> int:
        return doubled(number) + 1

    assert caller(4) == 9
    (code,) = caller.inspect_asm().values()
    assert "doubled" not in "".join(line for line in code.splitlines() if "call" in line)
