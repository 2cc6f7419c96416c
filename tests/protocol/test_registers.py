"""The register map."""

import pytest

from protocol import registers
from protocol.reasons import DenyReason, DropReason, StaleReason
from protocol.registers import REGISTERS, Access

# The addresses that a host must know before it can ask for anything else.
FIXED = {
    "identity": 0x000,
    "version": 0x008,
    "symbol_count": 0x010,
    "clock_ns": 0x020,
    "control": 0x028,
    "kill": 0x030,
    "market_base": 0x080,
    "execution_base": 0x090,
    "command_base": 0x0A0,
    "frames_received": 0x200,
    "drops": 0x300,
    "denials": 0x400,
    "symbol_stock": 0x10000,
    "symbol_locate": 0x10008,
}


def test_fixed_addresses():
    assert {name: registers.BY_NAME[name].offset for name in FIXED} == FIXED


def test_addresses_are_unique_multiples_of_eight():
    used = [item.address(index) for item in REGISTERS for index in range(item.count)]
    assert len(used) == len(set(used)) > 131_000
    assert not [address for address in used if address % 8]


def test_names_are_unique():
    assert len(registers.BY_NAME) == len(REGISTERS)


def test_map_is_in_order_of_address():
    assert list(REGISTERS) == sorted(REGISTERS, key=lambda item: item.offset)


def test_identity_reads_as_text():
    assert registers.IDENTITY.to_bytes(8, "little") == b"TICKWIRE"


def test_card_comes_up_closed():
    assert registers.KILL.init == 1
    assert registers.CONTROL.init == 0
    assert registers.ORDER_SESSION.init == 0


def test_every_reason_has_a_counter():
    assert registers.DROPS.count == len(DropReason)
    assert registers.DENIALS.count == len(DenyReason)


@pytest.mark.parametrize("enum", [DropReason, StaleReason, DenyReason])
def test_reasons_count_up_from_zero(enum):
    assert [int(item) for item in enum] == list(range(len(enum)))


def test_element_of_an_array_has_its_own_address():
    assert registers.DROPS.address(2) == 0x310
    assert registers.SYMBOL_LOCATE.address(1) == 0x10018


@pytest.mark.parametrize("index", [-1, 2])
def test_index_outside_an_array_is_refused(index):
    with pytest.raises(IndexError) as caught:
        registers.FRAMES_RECEIVED.address(index)
    assert str(caught.value) == f"frames_received has 2 elements, not {index + 1}"


def test_counters_are_read_only():
    counters = [item for item in REGISTERS if 0x200 <= item.offset < 0x10000]
    assert {item.access for item in counters} == {Access.R}
