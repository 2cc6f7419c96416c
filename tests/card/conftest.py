"""A card with a host's ends of its rings, a venue's end of its connection, and a feed."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hw.rtl.params import CardParams
from protocol import itch50, ouch50, registers, ring, soupbintcp
from protocol.frames import Address, multicast_mac, parse_tcp, tcp_frame, udp_frame
from protocol.ip import TcpFlag
from protocol.moldudp64 import packet
from protocol.risk import RiskLevel
from sim.card.functional import FunctionalCard
from sim.card.port import Port
from sim.card.verilated import VerilatedCard
from sw.card import Card, HostMemory
from sw.ring import RingReader, RingWriter, ring_size
from tests.card.served import ServedCard

HOST = Address(bytes.fromhex("020000000002"), 0x0A00_0002, 40_000)
VENUE = Address(bytes.fromhex("020000000001"), 0x0A00_0001, 26_400)
GROUP = Address(multicast_mac(0xE936_0C6F), 0xE936_0C6F, 26_477)
SESSION = "SESSION001"
HOST_SEQUENCE, VENUE_SEQUENCE = 0xFFFF_FFF0, 0xFFFF_FFC0  # Both wrap within a message or two.

Values = dict[str, Any]


Transmit = Callable[[bytes], None]


def functional(memory: memoryview, transmit: Transmit) -> FunctionalCard:
    return FunctionalCard(memory, symbol_count=4, order_count=64, transmit=transmit)


def verilated(memory: memoryview, transmit: Transmit) -> VerilatedCard:
    params = CardParams(symbol_count=4, order_count=64, open_order_count=64)
    return VerilatedCard(memory, params, transmit, time_stands=True)


CARDS = {"functional": functional, "verilated": verilated}


class Bench:
    """One card and everything around it, on one clock that the test moves."""

    def __init__(self, make: Callable[[Transmit], Any]):
        self.sent: list[bytes] = []
        self.card = make(self.sent.append)
        self.memory: memoryview = self.card.memory
        self.now_ns = 0
        self._next_feed = 1
        self._next_id = 1
        self._to_card = VENUE_SEQUENCE
        self._rings: list[RingReader | RingWriter] = []

    # The host's side.

    def write(self, register: registers.Register, value: int, index: int = 0) -> None:
        self.card.write(register.address(index), value)

    def read(self, register: registers.Register, index: int = 0) -> int:
        return int(self.card.read(register.address(index)))

    def place(self, market: int = 16, execution: int = 64, command: int = 16) -> None:
        """Place the rings, fresh, and tell the card where they are."""
        base = 0
        for slots, base_register, slots_register in (
            (market, registers.MARKET_BASE, registers.MARKET_SLOTS),
            (execution, registers.EXECUTION_BASE, registers.EXECUTION_SLOTS),
            (command, registers.COMMAND_BASE, registers.COMMAND_SLOTS),
        ):
            self.write(base_register, base)
            self.write(slots_register, slots)
            base += ring_size(slots)
        execution_base = ring_size(market)
        self.market = RingReader(self.memory, 0, market)
        self.execution = RingReader(self.memory, execution_base, execution)
        self.commands = RingWriter(self.memory, execution_base + ring_size(execution), command)
        self._rings += [self.market, self.execution, self.commands]

    def symbols(self, *stocks: tuple[str, int]) -> None:
        for index, (stock, locate) in enumerate(stocks):
            self.write(
                registers.SYMBOL_STOCK, int.from_bytes(stock.encode().ljust(8), "little"), index
            )
            self.write(registers.SYMBOL_LOCATE, locate, index)

    def connect(self) -> None:
        """Hand a connection over."""
        for register, value in (
            (registers.ORDER_LOCAL_MAC, int.from_bytes(HOST.mac, "big")),
            (registers.ORDER_REMOTE_MAC, int.from_bytes(VENUE.mac, "big")),
            (registers.ORDER_LOCAL_IP, HOST.ip),
            (registers.ORDER_REMOTE_IP, VENUE.ip),
            (registers.ORDER_LOCAL_PORT, HOST.port),
            (registers.ORDER_REMOTE_PORT, VENUE.port),
            (registers.ORDER_SEQUENCE, HOST_SEQUENCE),
            (registers.ORDER_ACKNOWLEDGMENT, VENUE_SEQUENCE),
            (registers.ORDER_FIRM, int.from_bytes(b"FIRM", "little")),
            (registers.ORDER_SESSION, 1),
        ):
            self.write(register, value)

    def limits(self, index: int = 0, **more: int) -> None:
        values = {"qty_max": 1_000, "notional_max": 1 << 40, "position_max": 5_000}
        values |= {"price_band_bp": 1_000, "tick_size": 1, "locate_qty": 5_000, "phases": 0b11111}
        self.command(ring.LIMITS, symbol_index=index, **(values | more))

    def rate(self, burst: int = 1_000, interval_ns: int = 1) -> None:
        for level in RiskLevel:
            self.command(
                ring.LEVEL_LIMITS,
                level=level,
                gross_max=1 << 50,
                net_max=1 << 50,
                rate_burst_ns=burst * interval_ns,
                rate_interval_ns=interval_ns,
            )

    def start(self, limits: bool = True, **slots: int) -> None:
        """Bring the card up for two symbols, as a host does, and make a market of the first."""
        self.place(**slots)
        self.symbols(("AAPL", 7), ("MSFT", 8))
        self.connect()
        self.write(registers.CONTROL, 1)
        if limits:
            self.limits(0)
            self.limits(1)
            self.rate()
        self.write(registers.KILL, 0)

    def command(self, layout: Any, **values: Any) -> int:
        """Publish a command and let the card take it. Returns its sequence number."""
        assert self.commands.put(layout.pack(**values))
        self.card.poll_commands(self.now_ns)
        return self.commands.head

    def new(self, qty: int = 100, price: int = 1_000_000, side: str = "B", **more: Any) -> int:
        """Publish a new order of the first symbol. Returns its number."""
        number, self._next_id = self._next_id, self._next_id + 1
        values: Values = {"symbol_index": 0, "side": ord(side), "time_in_force": ord("0")}
        self.command(ring.NEW, cl_ord_id=number, order_qty=qty, price=price, **(values | more))
        return number

    def replace(self, orig: int, qty: int, price: int = 1_000_000) -> int:
        number, self._next_id = self._next_id, self._next_id + 1
        self.command(
            ring.REPLACE,
            cl_ord_id=number,
            orig_cl_ord_id=orig,
            symbol_index=0,
            side=ord("B"),
            time_in_force=ord("0"),
            order_qty=qty,
            price=price,
        )
        return number

    def cancel(self, number: int, qty: int = 0) -> None:
        self.command(ring.CANCEL, cl_ord_id=number, symbol_index=0, order_qty=qty)

    def take(self, reader: RingReader, most: int = 1 << 20) -> list[tuple[str, Values]]:
        """Take records: their types' names with their fields."""
        found: list[tuple[str, Values]] = []
        while len(found) < most and (offset := reader.poll()) >= 0:
            record = bytes(self.memory[offset : offset + ring.RECORD_SIZE])
            reader.release()
            layout = ring.RECORDS.by_code[record[0]]
            found.append((ring.RecordType(record[0]).name, layout.unpack(record)))
        return found

    def answers(self, *names: str) -> list[tuple[Any, ...]]:
        """Take every execution record: its type's name and the named fields."""
        return [
            (kind, *(values[name] for name in names if name in values))
            for kind, values in self.take(self.execution)
        ]

    # The wire's side.

    @staticmethod
    def add(ref: int, side: str, price: int, shares: int = 100, locate: int = 7) -> bytes:
        return itch50.ADD_ORDER.pack(
            stock_locate=locate,
            tracking_number=0,
            timestamp=5,
            order_reference_number=ref,
            buy_sell_indicator=side,
            shares=shares,
            stock="AAPL",
            price=price,
        )

    @staticmethod
    def delete(ref: int, locate: int = 7) -> bytes:
        return itch50.ORDER_DELETE.pack(
            stock_locate=locate, tracking_number=0, timestamp=5, order_reference_number=ref
        )

    @staticmethod
    def trading_action(state: str, locate: int = 7) -> bytes:
        return itch50.STOCK_TRADING_ACTION.pack(
            stock_locate=locate,
            tracking_number=0,
            timestamp=5,
            stock="AAPL",
            trading_state=state,
            reserved=" ",
            reason_code="",
        )

    @staticmethod
    def directory(stock: str, locate: int) -> bytes:
        blank: Values = {f.name: " " for f in itch50.STOCK_DIRECTORY.fields if not f.is_integer}
        blank |= {f.name: 0 for f in itch50.STOCK_DIRECTORY.fields if f.is_integer}
        return itch50.STOCK_DIRECTORY.pack(
            blank | {"message_type": "R", "stock": stock, "stock_locate": locate}
        )

    def market_messages(self) -> tuple[bytes, bytes]:
        """Return a bid of 100.00 and an offer of 100.01 in the first symbol."""
        return self.add(1, "B", 1_000_000), self.add(2, "S", 1_000_100)

    def started(self, **more: Any) -> None:
        """Start the card and make the first symbol's market; forget what that brought."""
        self.start(**more)
        self.feed(*self.market_messages())
        self.take(self.market)

    def feed(
        self,
        *messages: bytes,
        sequence: int | None = None,
        port: Port = Port.FEED_A,
        session: str = SESSION,
    ) -> None:
        """Send feed messages in one packet."""
        first = self._next_feed if sequence is None else sequence
        self._next_feed = max(self._next_feed, first + len(messages))
        payload = packet(session, first, list(messages))
        self.card.receive(port, udp_frame(VENUE, GROUP, payload), self.now_ns)

    def ouch(self) -> list[tuple[str, Values]]:
        """Return and forget what the card sent to the venue, each message in its segment."""
        found: list[tuple[str, Values]] = []
        for data in self.sent:
            segment = parse_tcp(data)
            if segment.payload:
                message, values, _ = ouch50.unpack(ouch50.INBOUND, segment.payload[3:])
                found.append((message.title, values))
        self.sent.clear()
        return found

    def venue(self, payload: bytes, flags: TcpFlag = TcpFlag.ACK, **more: Any) -> None:
        """Send a segment to the card."""
        sequence = more.get("sequence", self._to_card)
        source, destination = more.get("source", VENUE), more.get("destination", HOST)
        data = tcp_frame(source, destination, sequence, 0, flags, payload)
        if not more:
            self._to_card = (self._to_card + len(payload)) & 0xFFFF_FFFF
        self.card.receive(Port.ORDER, data, self.now_ns)

    def answer(self, message: ouch50.Message, **values: Any) -> bytes:
        """Return an answer in its SoupBinTCP packet."""
        data = ouch50.pack(message, {"timestamp": 77, **values})
        return soupbintcp.wrap(soupbintcp.SEQUENCED_DATA, data)

    def accepted(
        self, number: int, qty: int = 100, price: int = 1_000_000, state: str = "L"
    ) -> bytes:
        return self.answer(
            ouch50.ORDER_ACCEPTED,
            user_ref_num=number,
            side="B",
            quantity=qty,
            symbol="AAPL",
            price=price,
            time_in_force="0",
            display="Y",
            order_reference_number=9_000 + number,
            capacity="P",
            inter_market_sweep_eligibility="N",
            cross_type="N",
            order_state=state,
            cl_ord_id=str(number),
        )

    def replaced(
        self, orig: int, number: int, qty: int, price: int = 1_000_000, state: str = "L"
    ) -> bytes:
        return self.answer(
            ouch50.ORDER_REPLACED,
            orig_user_ref_num=orig,
            user_ref_num=number,
            side="B",
            quantity=qty,
            symbol="AAPL",
            price=price,
            time_in_force="0",
            display="Y",
            order_reference_number=9_000 + number,
            capacity="P",
            inter_market_sweep_eligibility="N",
            cross_type="N",
            order_state=state,
            cl_ord_id=str(number),
        )

    def executed(self, number: int, qty: int, price: int = 1_000_000, match: int = 1) -> bytes:
        return self.answer(
            ouch50.ORDER_EXECUTED,
            user_ref_num=number,
            quantity=qty,
            price=price,
            liquidity_flag="A",
            match_number=match,
        )

    def canceled(self, number: int, qty: int, reason: str = "U") -> bytes:
        return self.answer(ouch50.ORDER_CANCELED, user_ref_num=number, quantity=qty, reason=reason)

    def rejected(self, number: int, reason: int = 0x17) -> bytes:
        return self.answer(
            ouch50.REJECTED, user_ref_num=number, reason=reason, cl_ord_id=str(number)
        )

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        self.card.advance(self.now_ns)

    def close(self) -> None:
        for item in self._rings:
            item.close()
        self.card.close()


@pytest.fixture(params=[*CARDS, "served"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One card of each kind, not yet started: two in this process, one in another."""
    if request.param == "served":
        made = Bench(lambda transmit: ServedCard(transmit, symbol_count=4, order_count=64))
        yield made
        made.close()
        return
    with HostMemory(1 << 16) as memory:  # Given back only if the card lets go of it.
        made = Bench(partial(CARDS[request.param], memory))
        card: Card = made.card
        assert card.memory is memory
        yield made
        made.close()
