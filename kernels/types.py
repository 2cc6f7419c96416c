"""The types of kernels: functions on integers that mean the same in Python, Numba and hardware.

A kernel is a typed function. Its arguments and results have one of these types, and every value is
an ``int`` or a ``bool`` in Python:

- ``U32``, ``S16``: integers, unsigned or in two's complement. ``U[n]`` and ``S[n]`` give those of
  other widths.
- ``Bool``: a truth value. An integer is none: write ``x != 0``.
- ``Fixed[i, f]``, ``UFixed[i, f]``: fixed point, the integer that is the number times ``2**f``,
  with ``i`` bits before the point (of ``Fixed`` one is the sign). ``+``, ``-``, ``min``, ``max``
  and comparisons need the same ``f`` on both sides; ``*`` adds them; a product with an integer and
  a shift keep ``f``. :func:`to_fixed`, :func:`to_int` and :func:`rescale` convert, rounding down;
  :func:`from_raw` and :func:`raw` take the integer for the number and the other way round.
- a ``NamedTuple`` of these, and ``tuple[...]`` of these.

A type checker sees ``int``. It cannot read ``U[37]`` in an annotation; where one is run, give the
type a name: ``Price = Annotated[int, Shape(37)]``.

Values between arguments and results have no width: they are integers, as in Python, and nothing
wraps unless :func:`wrap` says so.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Shape:
    """An integer type: so many bits, of which ``fraction`` are behind the point.

    Raises
    ------
    TypeError, ValueError
        If there can be no such type.
    """

    width: int
    signed: bool = False
    fraction: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("width", self.width, 1), ("fraction", self.fraction, 0)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value!r}")
        if not isinstance(self.signed, bool):
            raise TypeError(f"signed must be a bool, not {self.signed!r}")

    @property
    def lo(self) -> int:
        """Least value."""
        return -(1 << self.width - 1) if self.signed else 0

    @property
    def hi(self) -> int:
        """Greatest value."""
        return (1 << self.width - self.signed) - 1

    def __str__(self) -> str:
        if self.fraction:
            name = "Fixed" if self.signed else "UFixed"
            return f"{name}[{self.width - self.fraction}, {self.fraction}]"
        return f"{'S' if self.signed else 'U'}{self.width}"

    def check(self, what: str, value: object) -> None:
        """Raise if a value is not of this type."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{what} must be an int ({self}), not {value!r}")
        if not self.lo <= value <= self.hi:
            raise ValueError(f"{what} must be {self.lo} to {self.hi} ({self}), not {value!r}")

    def leaves(self, name: str) -> "Iterator[tuple[str, Leaf]]":
        """Yield the name and type of each scalar."""
        yield name, self


@dataclass(frozen=True, slots=True)
class Boolean:
    """The type of a truth value."""

    def __str__(self) -> str:
        return "Bool"

    def check(self, what: str, value: object) -> None:
        """Raise if a value is not of this type."""
        if not isinstance(value, bool):
            raise TypeError(f"{what} must be a bool, not {value!r}")

    def leaves(self, name: str) -> "Iterator[tuple[str, Leaf]]":
        """Yield the name and type of each scalar."""
        yield name, self


@dataclass(frozen=True, slots=True)
class Group:
    """The type of a record, or of a tuple: named or numbered items.

    ``record`` is the ``NamedTuple``, or None for a plain tuple.
    """

    items: "tuple[tuple[str, KernelType], ...]"
    record: type | None = None

    def __str__(self) -> str:
        if self.record is not None:
            return self.record.__name__
        return f"tuple[{', '.join(str(kind) for _, kind in self.items)}]"

    def check(self, what: str, value: object) -> None:
        """Raise if a value is not of this type."""
        if self.record is not None and not isinstance(value, self.record):
            raise TypeError(f"{what} must be a {self}, not {value!r}")
        if not isinstance(value, tuple) or len(value) != len(self.items):
            raise TypeError(f"{what} must be a tuple of {len(self.items)}, not {value!r}")
        for (name, kind), item in zip(self.items, value, strict=True):
            kind.check(f"{what}.{name}" if self.record else f"{what}[{name}]", item)

    def leaves(self, name: str) -> "Iterator[tuple[str, Leaf]]":
        """Yield the name and type of each scalar, in order."""
        for item, kind in self.items:
            yield from kind.leaves(f"{name}_{item}")


Leaf = Shape | Boolean
KernelType = Shape | Boolean | Group

Bool = bool


class _Integers:
    """Gives ``U[n]`` or ``S[n]``."""

    def __init__(self, signed: bool):
        self._signed = signed

    def __getitem__(self, width: int) -> Any:
        return Annotated[int, Shape(width, self._signed)]


class _FixedPoint:
    """Gives ``Fixed[i, f]`` or ``UFixed[i, f]``."""

    def __init__(self, signed: bool):
        self._signed = signed

    def __getitem__(self, bits: tuple[int, int]) -> Any:
        if not isinstance(bits, tuple) or len(bits) != 2:
            raise TypeError(f"bits must be two, before and behind the point, not {bits!r}")
        whole, fraction = bits
        for name, value in (("whole bits", whole), ("fraction", fraction)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, not {value!r}")
        return Annotated[int, Shape(whole + fraction, self._signed, fraction)]


U = _Integers(signed=False)
S = _Integers(signed=True)
Fixed = _FixedPoint(signed=True)
UFixed = _FixedPoint(signed=False)


@functools.cache
def kernel_type(annotation: object) -> KernelType:
    """Return the type that an annotation means.

    Raises :class:`TypeError` if it means none.
    """
    if annotation is bool:
        return Boolean()
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, Shape):
                return extra
    if get_origin(annotation) is tuple and Ellipsis not in get_args(annotation):
        numbered = enumerate(get_args(annotation))
        return Group(tuple((str(index), kernel_type(item)) for index, item in numbered))
    if isinstance(annotation, type) and hasattr(annotation, "_fields"):
        hints = get_type_hints(annotation, include_extras=True)
        return Group(tuple((name, kernel_type(hint)) for name, hint in hints.items()), annotation)
    name = annotation.__name__ if isinstance(annotation, type) else repr(annotation)
    raise TypeError(
        f"must be U[n], S[n], Bool, Fixed[i, f], UFixed[i, f], a NamedTuple or a tuple of them, "
        f"not {name}"
    )


def shape_of(kind: object) -> Shape:
    """Return the integer type that a name like ``U32`` stands for; TypeError if it is none."""
    shape = kernel_type(kind)
    if not isinstance(shape, Shape):
        raise TypeError(f"must be an integer or fixed-point type, not {shape}")
    return shape


class Kernel(Generic[P, R]):
    """A function on integers that checks what goes in and what comes out.

    Attributes
    ----------
    function : callable
        The plain function, which checks nothing.
    parameters : dict of str to KernelType
        In order.
    result : KernelType
        Of what it returns.
    """

    def __init__(self, function: Callable[P, R]):
        self.function = function
        self.name = function.__name__
        self._signature = inspect.signature(function)
        hints = get_type_hints(function, include_extras=True)
        self.parameters: dict[str, KernelType] = {}
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
                raise TypeError(f"{self.name}: {name} must be an ordinary parameter")
            if parameter.default is not parameter.empty:
                raise TypeError(f"{self.name}: {name} must have no default")
            self.parameters[name] = self._resolve(name, hints)
        self.result = self._resolve("return", hints)
        functools.update_wrapper(self, function)

    def _resolve(self, name: str, hints: dict[str, object]) -> KernelType:
        if name not in hints:
            raise TypeError(f"{self.name}: {name} has no type")
        try:
            return kernel_type(hints[name])
        except TypeError as error:
            raise TypeError(f"{self.name}: {name} {error}") from None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function.

        Raises :class:`TypeError` or :class:`ValueError` for a value that is not of its type.
        """
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            self.parameters[name].check(f"{self.name}: {name}", value)
        result = self.function(*args, **kwargs)
        self.result.check(f"{self.name}: result", result)
        return result

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"


def kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Make a kernel of a typed function.

    Raises :class:`TypeError` if a parameter or the result has no kernel type.
    """
    return Kernel(function)


# What a kernel may call to change the width of a value, or its point.


def wrap(value: int, kind: object) -> int:
    """Return a value modulo two to the width: its low bits, read as this type."""
    shape = shape_of(kind)
    return (value - shape.lo) % (1 << shape.width) + shape.lo


def saturate(value: int, kind: object) -> int:
    """Return the value of this type that is nearest."""
    shape = shape_of(kind)
    return min(max(value, shape.lo), shape.hi)


def truncate(value: int, kind: object) -> int:
    """Return a value unchanged, which is known to fit this type.

    High bits are dropped where they carry nothing: a kernel in which a value might not fit is
    refused when it is compiled. Raises :class:`ValueError` for such a value.
    """
    shape_of(kind).check("truncate: value", value)
    return value


def to_fixed(value: int, kind: object) -> int:
    """Return an integer in fixed point. Exact."""
    return value << shape_of(kind).fraction


def to_int(value: int, kind: object) -> int:
    """Return the greatest integer not above a value of this fixed-point type."""
    return value >> shape_of(kind).fraction


def rescale(value: int, kind: object, to: object) -> int:
    """Return a value of one fixed-point type with the fraction of another, rounded down."""
    bits = shape_of(to).fraction - shape_of(kind).fraction
    return value << bits if bits >= 0 else value >> -bits


def from_raw(value: int, kind: object) -> int:
    """Return an integer that is a number times ``2**f`` already, as fixed point. Unchanged."""
    shape_of(kind)
    return value


def raw(value: int) -> int:
    """Return the integer that stands for a number in fixed point. Unchanged."""
    return value


# Names that a type checker can read.

U1 = Annotated[int, Shape(1)]
U2 = Annotated[int, Shape(2)]
U3 = Annotated[int, Shape(3)]
U4 = Annotated[int, Shape(4)]
U5 = Annotated[int, Shape(5)]
U6 = Annotated[int, Shape(6)]
U7 = Annotated[int, Shape(7)]
U8 = Annotated[int, Shape(8)]
U9 = Annotated[int, Shape(9)]
U10 = Annotated[int, Shape(10)]
U11 = Annotated[int, Shape(11)]
U12 = Annotated[int, Shape(12)]
U13 = Annotated[int, Shape(13)]
U14 = Annotated[int, Shape(14)]
U15 = Annotated[int, Shape(15)]
U16 = Annotated[int, Shape(16)]
U17 = Annotated[int, Shape(17)]
U18 = Annotated[int, Shape(18)]
U19 = Annotated[int, Shape(19)]
U20 = Annotated[int, Shape(20)]
U21 = Annotated[int, Shape(21)]
U22 = Annotated[int, Shape(22)]
U23 = Annotated[int, Shape(23)]
U24 = Annotated[int, Shape(24)]
U25 = Annotated[int, Shape(25)]
U26 = Annotated[int, Shape(26)]
U27 = Annotated[int, Shape(27)]
U28 = Annotated[int, Shape(28)]
U29 = Annotated[int, Shape(29)]
U30 = Annotated[int, Shape(30)]
U31 = Annotated[int, Shape(31)]
U32 = Annotated[int, Shape(32)]
U33 = Annotated[int, Shape(33)]
U34 = Annotated[int, Shape(34)]
U35 = Annotated[int, Shape(35)]
U36 = Annotated[int, Shape(36)]
U37 = Annotated[int, Shape(37)]
U38 = Annotated[int, Shape(38)]
U39 = Annotated[int, Shape(39)]
U40 = Annotated[int, Shape(40)]
U41 = Annotated[int, Shape(41)]
U42 = Annotated[int, Shape(42)]
U43 = Annotated[int, Shape(43)]
U44 = Annotated[int, Shape(44)]
U45 = Annotated[int, Shape(45)]
U46 = Annotated[int, Shape(46)]
U47 = Annotated[int, Shape(47)]
U48 = Annotated[int, Shape(48)]
U49 = Annotated[int, Shape(49)]
U50 = Annotated[int, Shape(50)]
U51 = Annotated[int, Shape(51)]
U52 = Annotated[int, Shape(52)]
U53 = Annotated[int, Shape(53)]
U54 = Annotated[int, Shape(54)]
U55 = Annotated[int, Shape(55)]
U56 = Annotated[int, Shape(56)]
U57 = Annotated[int, Shape(57)]
U58 = Annotated[int, Shape(58)]
U59 = Annotated[int, Shape(59)]
U60 = Annotated[int, Shape(60)]
U61 = Annotated[int, Shape(61)]
U62 = Annotated[int, Shape(62)]
U63 = Annotated[int, Shape(63)]
U64 = Annotated[int, Shape(64)]

S2 = Annotated[int, Shape(2, True)]
S3 = Annotated[int, Shape(3, True)]
S4 = Annotated[int, Shape(4, True)]
S5 = Annotated[int, Shape(5, True)]
S6 = Annotated[int, Shape(6, True)]
S7 = Annotated[int, Shape(7, True)]
S8 = Annotated[int, Shape(8, True)]
S9 = Annotated[int, Shape(9, True)]
S10 = Annotated[int, Shape(10, True)]
S11 = Annotated[int, Shape(11, True)]
S12 = Annotated[int, Shape(12, True)]
S13 = Annotated[int, Shape(13, True)]
S14 = Annotated[int, Shape(14, True)]
S15 = Annotated[int, Shape(15, True)]
S16 = Annotated[int, Shape(16, True)]
S17 = Annotated[int, Shape(17, True)]
S18 = Annotated[int, Shape(18, True)]
S19 = Annotated[int, Shape(19, True)]
S20 = Annotated[int, Shape(20, True)]
S21 = Annotated[int, Shape(21, True)]
S22 = Annotated[int, Shape(22, True)]
S23 = Annotated[int, Shape(23, True)]
S24 = Annotated[int, Shape(24, True)]
S25 = Annotated[int, Shape(25, True)]
S26 = Annotated[int, Shape(26, True)]
S27 = Annotated[int, Shape(27, True)]
S28 = Annotated[int, Shape(28, True)]
S29 = Annotated[int, Shape(29, True)]
S30 = Annotated[int, Shape(30, True)]
S31 = Annotated[int, Shape(31, True)]
S32 = Annotated[int, Shape(32, True)]
S33 = Annotated[int, Shape(33, True)]
S34 = Annotated[int, Shape(34, True)]
S35 = Annotated[int, Shape(35, True)]
S36 = Annotated[int, Shape(36, True)]
S37 = Annotated[int, Shape(37, True)]
S38 = Annotated[int, Shape(38, True)]
S39 = Annotated[int, Shape(39, True)]
S40 = Annotated[int, Shape(40, True)]
S41 = Annotated[int, Shape(41, True)]
S42 = Annotated[int, Shape(42, True)]
S43 = Annotated[int, Shape(43, True)]
S44 = Annotated[int, Shape(44, True)]
S45 = Annotated[int, Shape(45, True)]
S46 = Annotated[int, Shape(46, True)]
S47 = Annotated[int, Shape(47, True)]
S48 = Annotated[int, Shape(48, True)]
S49 = Annotated[int, Shape(49, True)]
S50 = Annotated[int, Shape(50, True)]
S51 = Annotated[int, Shape(51, True)]
S52 = Annotated[int, Shape(52, True)]
S53 = Annotated[int, Shape(53, True)]
S54 = Annotated[int, Shape(54, True)]
S55 = Annotated[int, Shape(55, True)]
S56 = Annotated[int, Shape(56, True)]
S57 = Annotated[int, Shape(57, True)]
S58 = Annotated[int, Shape(58, True)]
S59 = Annotated[int, Shape(59, True)]
S60 = Annotated[int, Shape(60, True)]
S61 = Annotated[int, Shape(61, True)]
S62 = Annotated[int, Shape(62, True)]
S63 = Annotated[int, Shape(63, True)]
S64 = Annotated[int, Shape(64, True)]
