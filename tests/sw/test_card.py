"""The host's side of a card: memory, and named registers. What a card must do is in tests/card."""

from multiprocessing.shared_memory import SharedMemory

import pytest

from protocol import registers
from sw.card import HostMemory, read, write


class Registers:
    """A card that is nothing but its registers."""

    def __init__(self):
        self.memory = memoryview(b"")
        self.values = {}

    def read(self, address):
        return self.values.get(address, 0)

    def write(self, address, value):
        self.values[address] = value


def test_registers_are_read_and_written_by_name_and_index():
    card = Registers()
    write(card, registers.KILL, 1)
    write(card, registers.SYMBOL_LOCATE, 7, index=2)
    assert card.values == {0x30: 1, 0x10028: 7}
    assert read(card, registers.SYMBOL_LOCATE, index=2) == 7
    assert read(card, registers.SYMBOL_LOCATE) == 0


def test_element_outside_an_array_is_refused():
    with pytest.raises(IndexError, match=r"^feed_group has 2 elements, not 3$"):
        write(Registers(), registers.FEED_GROUP, 0, index=2)


def test_host_memory_is_shared_by_name_and_given_back_at_the_end():
    host = HostMemory(100)
    with host as memory:
        assert len(memory) == 100
        assert bytes(memory) == bytes(100)
        other = SharedMemory(name=host.name)
        memory[99] = 7
        assert other.buf[99] == 7
        other.close()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name=host.name)
    with pytest.raises(ValueError, match="released"):
        memory[0]


def test_host_memory_is_given_back_when_the_body_fails():
    host = HostMemory(64)
    with pytest.raises(KeyError), host:
        raise KeyError("body")
    with pytest.raises(FileNotFoundError):
        SharedMemory(name=host.name)
