"""One operation of a dataflow graph in Amaranth."""

from collections.abc import Sequence

from amaranth.hdl import C, Cat, Mux, Shape, Value, signed, unsigned

from hw.hls.ir import Node, Op


def shape(node: Node) -> Shape:
    """Return the shape that holds every value of a node."""
    return signed(node.width) if node.signed else unsigned(node.width)


def emit(node: Node, operands: Sequence[Value]) -> Value:
    """Return the value of an operation, not yet of the node's shape.

    No operation can overflow: Amaranth's results are as wide as they need to be. A divider is
    never emitted; divisions are products by then.
    """
    a = operands[0] if operands else C(node.lo, shape(node))
    match node.op:
        case Op.CONST | Op.FIT | Op.WRAP:
            return a
        case Op.ADD:
            return a + operands[1]
        case Op.ADDC:
            # One carry chain: the lowest bit makes the carry.
            carry = operands[2][0]
            return (_below(carry, a) + _below(carry, operands[1])) >> 1
        case Op.SUB:
            return a - operands[1]
        case Op.MUL:
            return a * operands[1]
        case Op.SHL:
            if node.operands[1].is_const:
                return _below(C(0, node.operands[1].lo), a)
            return a << operands[1].as_unsigned()
        case Op.SHR:
            return a >> (node.operands[1].lo if node.operands[1].is_const else operands[1])
        case Op.AND:
            return a & operands[1]
        case Op.OR:
            return a | operands[1]
        case Op.XOR:
            return a ^ operands[1]
        case Op.NOT:
            # Of an unsigned operand too it is the integer below zero.
            return ~Cat(a, C(0, 1)).as_signed() if not a.shape().signed else ~a
        case Op.EQ:
            return a == operands[1]
        case Op.NE:
            return a != operands[1]
        case Op.LT:
            return a < operands[1]
        case Op.LE:
            return a <= operands[1]
        case Op.MUX:
            return Mux(a, operands[1], operands[2])
        case Op.TABLE:
            return _table(node, a)
    raise ValueError(f"{node.op} has no hardware: it must be lowered before")


def _below(low: Value, value: Value) -> Value:
    """Return a value with more bits below, of the same sign."""
    joined = Cat(low, value)
    return joined.as_signed() if value.shape().signed else joined


def _table(node: Node, index: Value) -> Value:
    """Choose by one bit of the index after the other, the lowest first."""
    size = 1 << len(index)
    items: list[Value] = [C(item, shape(node)) for item in node.table]
    items += [items[-1]] * (size - len(items))
    for bit in index:
        items = [Mux(bit, high, low) for low, high in zip(items[::2], items[1::2], strict=True)]
    return items[0]
