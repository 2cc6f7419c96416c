"""Functions compiled by Numba, and called by address.

What is compiled is kept in the user's cache, in a folder named after the text of all modules that
compile something: Numba itself does not notice when a function in another file has changed.

A kernel can be called by a compiled function as it stands. With ``NUMBA_DISABLE_JIT`` everything
here is plain Python.
"""

import ctypes
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic, typeof_impl
from numpy.typing import NDArray

from kernels.types import Boolean, Group, Kernel, kernel_type

F = TypeVar("F", bound=Callable[..., Any])

_ROOT = Path(__file__).resolve().parents[1]
_SIMULATED = _ROOT / "sim" / "venue", _ROOT / "sim" / "card" / "functional"
IS_OFF = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


def _cache_folder() -> Path:
    """Return the folder for what is compiled of the sources as they are now."""
    folders = (*(_ROOT / name for name in ("kernels", "protocol", "sw")), *_SIMULATED)
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "tickwire", digest[:16])


def _is_kept() -> bool:
    """Choose the cache's folder. Returns False where none can be made."""
    if not numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        try:
            folder = _cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):
            return False
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return True


_IS_KEPT = _is_kept()


def jit(function: F) -> F:
    """Compile a function when it is first called, and keep the result on disk if that can be."""
    compiled: Any = numba.njit(cache=_IS_KEPT)(function)
    return compiled  # type: ignore[no-any-return]


def inlined(function: F) -> F:
    """Compile a function into each one that calls it.

    For what is done for every message: there a call costs more than what is done in it, and arrays
    that the caller has found already are looked for again.
    """
    compiled: Any = numba.njit(cache=_IS_KEPT, forceinline=True)(function)
    return compiled  # type: ignore[no-any-return]


def entry(function: F, *arguments: Any) -> F:
    """Return a compiled function without the look at its arguments' types: half of a call's time.

    ``arguments`` show the types; the function is called with them, so they must be harmless.
    """
    if IS_OFF:
        return function
    function(*arguments)
    (signature,) = function.signatures  # type: ignore[attr-defined]
    point: F = function.overloads[signature].entry_point  # type: ignore[attr-defined]
    return point


def dtype_of(record: type) -> np.dtype[Any]:
    """Return the NumPy type of a kernel's record.

    Every integer has 64 bits and a sign, so that no mix of types can become a float.
    """
    kind = kernel_type(record)
    if not isinstance(kind, Group):
        raise TypeError(f"record must be a NamedTuple, not {kind}")
    return np.dtype(
        [(name, np.bool_ if isinstance(item, Boolean) else np.int64) for name, item in kind.items],
        align=True,
    )


_compiled: dict[Kernel[..., Any], Any] = {}


@typeof_impl.register(Kernel)
def _typeof_kernel(kernel: Kernel[..., Any], context: Any) -> Any:
    if kernel not in _compiled:
        _compiled[kernel] = numba.njit(kernel.function)
    return typeof_impl(_compiled[kernel], context)


@intrinsic
def _pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic
def _prefetch(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer, number = context.get_value_type(types.voidptr), context.get_value_type(types.int32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function: Any = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
        read, keep, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(values[0], pointer), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@jit
def prefetch(address: int) -> None:
    """Have the cache line of an address fetched while something else is done.

    Plain Python does nothing: it would not be faster.
    """
    if not IS_OFF:
        _prefetch(address)  # type: ignore[call-arg]


def _carray(address: int, shape: Any, dtype: Any) -> Any:
    return carray(_pointer(address), shape, dtype)  # type: ignore[call-arg]


def _array(address: int, shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * size).from_address(int(address))
    return np.frombuffer(memory, dtype).reshape(shape)


array_at: Callable[[int, Any, Any], Any] = _array if IS_OFF else numba.njit(_carray)
"""Takes address, shape and type; returns the array that stands there. It must outlive its use."""


# Numbers at any address. Those of a wire are big-endian and aligned to nothing. All are handed on
# as integers of 64 bits with a sign: a number of 64 bits without one keeps its bits.


def _reader(bits: int) -> Any:
    """Return an intrinsic that reads a big-endian number of so many bits."""

    @intrinsic
    def read(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = ir.IntType(bits)
            found = builder.load(builder.inttoptr(values[0], kind.as_pointer()), align=1)
            if bits > 8:
                found = builder.bswap(found)
            return found if bits == 64 else builder.zext(found, ir.IntType(64))

        return types.int64(types.int64), generate

    return read


def _read_8(address: int) -> int:
    return ctypes.string_at(int(address), 1)[0]


def _read_16(address: int) -> int:
    return int.from_bytes(ctypes.string_at(int(address), 2), "big")


def _read_32(address: int) -> int:
    return int.from_bytes(ctypes.string_at(int(address), 4), "big")


def _read_64(address: int) -> int:
    return int.from_bytes(ctypes.string_at(int(address), 8), "big", signed=True)


read_8: Callable[[int], int] = _read_8 if IS_OFF else _reader(8)
read_16: Callable[[int], int] = _read_16 if IS_OFF else _reader(16)
read_32: Callable[[int], int] = _read_32 if IS_OFF else _reader(32)
read_64: Callable[[int], int] = _read_64 if IS_OFF else _reader(64)


# Words that two processes share. A plain load in a loop may be taken out of it, and a plain store
# may come before one that stands above it.


@intrinsic
def _acquire_word(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _release_word(context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        builder.store_atomic(values[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _plain_acquire(address: int) -> int:
    return ctypes.c_int64.from_address(int(address)).value


def _plain_release(address: int, value: int) -> None:
    ctypes.c_int64.from_address(int(address)).value = int(value)


acquire: Callable[[int], int] = _plain_acquire if IS_OFF else _acquire_word  # type: ignore[assignment]
"""Reads a word of 64 bits; nothing that stands below is read before it."""
release: Callable[[int, int], None] = _plain_release if IS_OFF else _release_word  # type: ignore[assignment]
"""Writes a word of 64 bits after everything that stands above was written."""
