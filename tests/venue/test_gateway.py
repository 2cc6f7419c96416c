"""Order entry at the venue: OUCH in, answers out, and whatever a broken client may send."""

from random import Random

import pytest

from protocol import ouch50, soupbintcp
from protocol.frames import Address, parse_tcp, tcp_frame
from protocol.ip import TcpFlag
from protocol.orders import Side
from sim.venue.gateway import Gateway
from sim.venue.matching import Cross, MatchingEngine, NewOrder, SelfMatch
from sim.venue.replay import ReplayBook

VENUE, CLIENT = Address(b"venue1", 1, 26_400), Address(b"client", 2, 40_000)
STRANGER = Address(b"nobody", 3, 40_000)
VENUE_SEQUENCE, CLIENT_SEQUENCE = 0xFFFF_FFF0, 0xFFFF_FFE0
LOCATES = {"AAPL": 7, "MSFT": 8}
PRICE = 1_000_000
ACCEPTED, REPLACED, CANCELED = "Order Accepted", "Order Replaced", "Order Canceled"


class Client:
    """A client of one gateway, in front of an engine that others trade on too."""

    def __init__(self, engine=None, **settings):
        self.engine = MatchingEngine() if engine is None else engine
        self.frames: list[bytes] = []
        self.gateway = Gateway(
            self.engine,
            lambda symbol: LOCATES.get(symbol, 0),
            VENUE,
            CLIENT,
            VENUE_SEQUENCE,
            CLIENT_SEQUENCE,
            self.frames.append,
            **settings,
        )
        self.sequence = CLIENT_SEQUENCE

    def stream(self, data: bytes) -> None:
        frame = tcp_frame(CLIENT, VENUE, self.sequence, 0, TcpFlag.ACK, data)
        self.sequence = (self.sequence + len(data)) & 0xFFFF_FFFF
        self.gateway.receive(frame, 77)

    def send(self, message: ouch50.Message, **values) -> list[tuple]:
        self.stream(packed(message, **values))
        return self.answers()

    def answers(self, *names: str) -> list[tuple]:
        """Take the answers: title, and the named fields or those that matter most."""
        found = []
        for frame in self.frames:
            segment = parse_tcp(frame)
            assert segment.payload[2:3] == b"S"
            assert int.from_bytes(segment.payload[:2], "big") == len(segment.payload) - 2
            message, values, _ = ouch50.unpack(ouch50.OUTBOUND, segment.payload[3:])
            assert values["timestamp"] == 77
            wanted = names or ("orig_user_ref_num", "user_ref_num", "quantity", "reason")
            found.append((message.title, *(values[n] for n in wanted if n in values)))
        self.frames.clear()
        return found


def packed(message: ouch50.Message, **values) -> bytes:
    return soupbintcp.wrap(soupbintcp.UNSEQUENCED_DATA, ouch50.pack(message, values))


def enter(
    ref: int, side: str = "B", qty: int = 100, price: int = PRICE, options=(), **more
) -> bytes:
    values = {"user_ref_num": ref, "side": side, "quantity": qty, "price": price, "symbol": "AAPL"}
    values |= {"time_in_force": "0", "display": "Y", "capacity": "P", "cross_type": "N"}
    values |= {"inter_market_sweep_eligibility": "N", "cl_ord_id": f"id{ref}"}
    data = ouch50.pack(ouch50.ENTER_ORDER, values | more, options)
    return soupbintcp.wrap(soupbintcp.UNSEQUENCED_DATA, data)


def replace(orig: int, ref: int, qty: int = 100, price: int = PRICE, **more) -> bytes:
    values = {"orig_user_ref_num": orig, "user_ref_num": ref, "quantity": qty, "price": price}
    values |= {"time_in_force": "0", "display": "Y", "inter_market_sweep_eligibility": "N"}
    return packed(ouch50.REPLACE_ORDER_REQUEST, **(values | {"cl_ord_id": f"id{ref}"} | more))


def cancel(ref: int, qty: int = 0) -> bytes:
    return packed(ouch50.CANCEL_ORDER_REQUEST, user_ref_num=ref, quantity=qty)


def modify(ref: int, side: str, qty: int) -> bytes:
    return packed(ouch50.MODIFY_ORDER_REQUEST, user_ref_num=ref, side=side, quantity=qty)


def mass_cancel(ref: int, symbol: str = "") -> bytes:
    return packed(ouch50.MASS_CANCEL_REQUEST, user_ref_num=ref, firm="FIRM", symbol=symbol)


@pytest.fixture
def client() -> Client:
    return Client()


def tell(client: Client, *packets: bytes) -> list[tuple]:
    for data in packets:
        client.stream(data)
    return client.answers()


# Answers.


def test_accepted_order_is_echoed_byte_by_byte(client):
    client.stream(enter(1, qty=250, time_in_force="0"))
    (frame,) = client.frames
    segment = parse_tcp(frame)
    assert segment.sequence == VENUE_SEQUENCE
    assert segment.acknowledgment == (CLIENT_SEQUENCE + 50) - (1 << 32) == 18
    assert segment.flags == TcpFlag.ACK | TcpFlag.PSH
    assert segment.payload == (
        b"\x00\x41SA\x00\x00\x00\x00\x00\x00\x00\x4d\x00\x00\x00\x01B\x00\x00\x00\xfaAAPL    "
        b"\x00\x00\x00\x00\x00\x0f\x42\x400Y\x00\x00\x00\x00\x00\x00\x00\x01PNNLid1           "
        b"\x00\x00"
    )


def test_own_sequence_numbers_count_bytes_and_wrap(client):
    client.stream(enter(1) + cancel(1))
    first, second = (parse_tcp(frame) for frame in client.frames)
    assert second.sequence == (VENUE_SEQUENCE + 67) - (1 << 32) == 51
    assert len(first.payload) == 67


@pytest.mark.parametrize(
    ("packets", "answers"),
    [
        ([enter(1)], [(ACCEPTED, 1, 100)]),
        ([enter(1, symbol="NONE")], [("Rejected", 1, 0x17)]),
        ([enter(1, side="X")], [("Rejected", 1, 0x09)]),
        ([enter(1, side=" ")], [("Rejected", 1, 0x09)]),
        ([enter(1, time_in_force="6")], [("Rejected", 1, 0x0F)]),
        ([enter(1, qty=0)], [("Rejected", 1, 0x13)]),
        ([enter(1, qty=1_000_000)], [("Rejected", 1, 0x13)]),
        ([enter(1, qty=999_999)], [(ACCEPTED, 1, 999_999)]),
        ([enter(1, price=0)], [("Rejected", 1, 0x1D)]),
        ([enter(1, price=0x7735939D)], [("Rejected", 1, 0x1D)]),
        ([enter(1, price=0x7735939C)], [(ACCEPTED, 1, 100)]),
        # A number that is not higher than all before was sent again, and is ignored.
        ([enter(5), enter(5), enter(4), enter(6)], [(ACCEPTED, 5, 100), (ACCEPTED, 6, 100)]),
        ([enter(5, symbol="NONE"), enter(5)], [("Rejected", 5, 0x17)]),
        ([enter(0)], []),
        # IOC: what does not trade at once is gone.
        (
            [enter(1, time_in_force="3")],
            [(ACCEPTED, 1, 100), (CANCELED, 1, 100, "I")],
        ),
        # Cancels.
        ([enter(1), cancel(1)], [(ACCEPTED, 1, 100), (CANCELED, 1, 100, "U")]),
        ([enter(1), cancel(1, 30)], [(ACCEPTED, 1, 100), (CANCELED, 1, 70, "U")]),
        ([enter(1), cancel(1, 100), cancel(2)], [(ACCEPTED, 1, 100)]),
        ([enter(1), cancel(1), cancel(1)], [(ACCEPTED, 1, 100), (CANCELED, 1, 100, "U")]),
        # Replaces.
        ([enter(1), replace(1, 2, 150)], [(ACCEPTED, 1, 100), (REPLACED, 1, 2, 150)]),
        ([enter(1), replace(1, 1), replace(9, 2)], [(ACCEPTED, 1, 100)]),
        (
            [enter(1), replace(9, 2), replace(1, 2)],  # An ignored number may be used.
            [(ACCEPTED, 1, 100), (REPLACED, 1, 2, 100)],
        ),
        (
            [enter(1), replace(1, 2), replace(1, 3), cancel(1), cancel(2)],
            [(ACCEPTED, 1, 100), (REPLACED, 1, 2, 100), (CANCELED, 2, 100, "U")],
        ),
        (
            [enter(1), replace(1, 2, 0)],
            [(ACCEPTED, 1, 100), (CANCELED, 1, 100, "U")],
        ),
        (
            [enter(1), replace(1, 2, price=0)],
            [(ACCEPTED, 1, 100), (CANCELED, 1, 100, "U")],
        ),
        # Messages that this venue does not serve.
        ([packed(ouch50.MODIFY_ORDER_REQUEST, user_ref_num=1, side="S", quantity=5)], []),
        # Packets that are no messages: heartbeat, logout.
        ([b"\x00\x01R", b"\x00\x01O", enter(1)], [(ACCEPTED, 1, 100)]),
    ],
)  # fmt: skip
def test_messages_are_answered_like_this(client, packets, answers):
    assert tell(client, *packets) == answers


def test_mass_cancel_cancels_every_order_or_those_of_a_symbol_and_says_so(client):
    tell(client, enter(1), enter(2, symbol="MSFT"), enter(3), replace(3, 4))
    assert tell(client, mass_cancel(5, "AAPL")) == [
        (CANCELED, 1, 100, "U"),
        (CANCELED, 4, 100, "U"),
        ("Mass Cancel Response", 5),
    ]
    assert tell(client, mass_cancel(5), mass_cancel(3)) == []  # Sent again.
    assert tell(client, mass_cancel(6)) == [
        (CANCELED, 2, 100, "U"),
        ("Mass Cancel Response", 6),
    ]
    assert tell(client, enter(6)) == []
    client.stream(mass_cancel(7, "MSFT"))
    assert client.answers("firm", "symbol") == [("Mass Cancel Response", "FIRM", "MSFT")]


def test_disabled_port_takes_cancels_and_no_orders_until_it_is_enabled(client):
    firm = {"firm": "FIRM"}
    tell(client, enter(1), enter(2))
    assert tell(client, packed(ouch50.DISABLE_ORDER_ENTRY_REQUEST, user_ref_num=3, **firm)) == [
        ("Disable Order Entry Response", 3)
    ]
    assert tell(client, enter(4), replace(1, 5), cancel(1)) == [
        ("Rejected", 4, 0x0C),
        ("Rejected", 5, 0x0C),
        (CANCELED, 1, 100, "U"),
    ]
    client.stream(packed(ouch50.ENABLE_ORDER_ENTRY_REQUEST, user_ref_num=6, **firm))
    assert client.answers("user_ref_num", "firm") == [("Enable Order Entry Response", 6, "FIRM")]
    assert tell(client, enter(7), replace(2, 8)) == [(ACCEPTED, 7, 100), (REPLACED, 2, 8, 100)]
    again = packed(ouch50.DISABLE_ORDER_ENTRY_REQUEST, user_ref_num=6, **firm)
    assert tell(client, again, enter(9)) == [(ACCEPTED, 9, 100)]  # Sent again: no effect.


def test_account_query_is_answered_with_the_next_order_number(client):
    query = packed(ouch50.ACCOUNT_QUERY_REQUEST)
    client.stream(query)
    assert client.answers("next_user_ref_num") == [("Account Query Response", 1)]
    tell(client, enter(41))
    client.stream(query)
    assert client.answers("next_user_ref_num") == [("Account Query Response", 42)]


# Order types.

MIN_QTY, MAX_FLOOR, POST_ONLY = 3, 5, 12
MARKET = 0x7FFF_FFFF


@pytest.mark.parametrize(
    ("packets", "answers"),
    [
        # Fill or kill: IOC with a minimum of all shares. 60 shares are there.
        (
            [enter(1, qty=61, time_in_force="3", options=[(MIN_QTY, 61)])],
            [(ACCEPTED, 1, 61), (CANCELED, 1, 61, "I")],
        ),
        (
            [enter(1, qty=60, time_in_force="3", options=[(MIN_QTY, 60)])],
            [(ACCEPTED, 1, 60), ("Order Executed", 1, 60)],
        ),
        ([enter(1, qty=60, options=[(MIN_QTY, 61)])], [("Rejected", 1, 0x0D)]),
        (
            [enter(1, options=[(POST_ONLY, "P")])],
            [(ACCEPTED, 1, 100), (CANCELED, 1, 100, "G")],
        ),
        (
            [enter(1, price=MARKET)],
            [(ACCEPTED, 1, 100), ("Order Executed", 1, 60), (CANCELED, 1, 40, "I")],
        ),
        ([enter(1, cross_type="O", price=MARKET)], [(ACCEPTED, 1, 100)]),
        ([enter(1, cross_type="R")], [("Rejected", 1, 0x14)]),
        ([enter(1, display="N", options=[(MAX_FLOOR, 10)])], [("Rejected", 1, 0x04)]),
        # A sale that is marked short after all, and reduced: it keeps its place.
        (
            [enter(1, "S"), modify(1, "T", 5)],
            [(ACCEPTED, 1, 100), ("Order Modified", 1, 5)],
        ),
        # Not to the other side, and not to more shares.
        (
            [enter(1, "S"), modify(1, "B", 5)],
            [(ACCEPTED, 1, 100)],
        ),
        (
            [enter(1, "S"), modify(1, "S", 101)],
            [(ACCEPTED, 1, 100)],
        ),
    ],
)  # fmt: skip
def test_order_types_are_answered_like_this(client, packets, answers):
    client.engine.enter(NewOrder(900, 7, Side.SELL, 60, PRICE))
    assert tell(client, *packets) == answers


def test_hidden_order_is_not_in_the_depth_and_trades(client):
    tell(client, enter(1, display="N"))
    assert client.engine.bbo(7) == (None, None)
    client.gateway.publish(client.engine.enter(NewOrder(900, 7, Side.SELL, 60, PRICE)), 77)
    assert client.answers() == [("Order Executed", 1, 60)]


def test_next_part_of_a_reserve_order_is_restated(client):
    tell(client, enter(1, qty=100, options=[(MAX_FLOOR, 30)]))
    assert client.engine.bbo(7)[0].qty == 30
    client.gateway.publish(client.engine.enter(NewOrder(900, 7, Side.SELL, 40, PRICE)), 77)
    restated = parse_tcp(client.frames[1])
    message, values, options = ouch50.unpack(ouch50.OUTBOUND, restated.payload[3:])
    assert (message.title, values["reason"]) == ("Order Restated", "R")
    assert options == [(1, 3), (22, 30), (23, PRICE)]
    assert client.answers() == [
        ("Order Executed", 1, 30),
        ("Order Restated", 1, "R"),
        ("Order Executed", 1, 10),
    ]


def test_own_orders_that_meet_are_answered_with_what_was_prevented():
    client = Client(self_match=SelfMatch.DECREMENT)
    tell(client, enter(1, qty=100))
    client.stream(enter(2, "S", qty=150))
    names = ("user_ref_num", "decrement_shares", "quantity_prevented_from_trading")
    names += ("execution_price", "aiq_strategy")
    assert client.answers(*names)[1:] == [
        ("AIQ Canceled", 2, 100, 100, PRICE, "D"),
        ("AIQ Canceled", 1, 100, 100, PRICE, "D"),
    ]
    assert client.engine.order(1) is None
    assert client.engine.order(2).leaves_qty == 50


def test_order_in_a_cross_is_answered_with_its_type(client):
    client.engine.enter(NewOrder(900, 7, Side.SELL, 60, PRICE, cross=Cross.OPENING))
    tell(client, enter(1, cross_type="O", price=MARKET))
    client.gateway.publish(client.engine.cross(7, Cross.OPENING), 77)
    names = ("user_ref_num", "quantity", "price", "liquidity_flag", "reason")
    assert client.answers(*names) == [
        ("Order Executed", 1, 60, PRICE, "O"),
        ("Order Canceled", 1, 40, "E"),
    ]


def test_orders_are_canceled_when_the_connection_is_lost(client):
    client.engine.enter(NewOrder(900, 7, Side.BUY, 60, PRICE))
    tell(client, enter(1), enter(2, symbol="MSFT"), enter(3, price=PRICE + 100))
    client.gateway.disconnect(77)
    assert client.answers() == [
        (CANCELED, 3, 100, "Z"),
        (CANCELED, 1, 100, "Z"),
        (CANCELED, 2, 100, "Z"),
    ]
    assert client.engine.order(900) is not None


# Executions.


def test_incoming_order_takes_and_resting_order_makes(client):
    client.engine.enter(NewOrder(900, 7, Side.SELL, 60, PRICE - 100))
    client.stream(enter(1, qty=100))
    names = ("user_ref_num", "quantity", "price", "liquidity_flag", "match_number")
    assert client.answers(*names)[1:] == [("Order Executed", 1, 60, PRICE - 100, "R", 1)]
    client.gateway.publish(client.engine.enter(NewOrder(901, 7, Side.SELL, 500, PRICE)), 77)
    assert client.answers(*names) == [("Order Executed", 1, 40, PRICE, "A", 2)]
    assert tell(client, cancel(1), replace(1, 2)) == []  # It is gone.


def test_ioc_order_takes_what_is_there_and_loses_the_rest(client):
    client.engine.enter(NewOrder(900, 7, Side.SELL, 60, PRICE))
    assert tell(client, enter(1, time_in_force="3")) == [
        (ACCEPTED, 1, 100),
        ("Order Executed", 1, 60),
        (CANCELED, 1, 40, "I"),
    ]


def test_quantity_of_a_replace_counts_what_the_chain_has_executed(client):
    client.stream(enter(1, qty=100))
    client.gateway.publish(client.engine.enter(NewOrder(900, 7, Side.SELL, 60, PRICE)), 77)
    client.answers()
    assert tell(client, replace(1, 2, qty=150)) == [(REPLACED, 1, 2, 90)]
    assert tell(client, replace(2, 3, qty=60)) == [(CANCELED, 2, 90, "U")]
    assert tell(client, cancel(3), mass_cancel(9)) == [("Mass Cancel Response", 9)]


def test_replacement_keeps_side_symbol_and_capacity_and_has_its_own_terms(client):
    tell(client, enter(1, side="T", symbol="MSFT", capacity="A"))
    client.stream(replace(1, 2, 70, PRICE + 100, display="N"))
    names = ("side", "symbol", "capacity", "price", "display", "cl_ord_id", "order_state")
    names += ("order_reference_number",)
    assert client.answers(*names) == [(REPLACED, "T", "MSFT", "A", PRICE + 100, "N", "id2", "L", 2)]


def test_self_match_is_canceled_with_its_reason():
    client = Client(ReplayBook())
    assert tell(client, enter(1), enter(2, side="S")) == [
        (ACCEPTED, 1, 100),
        (ACCEPTED, 2, 100),
        (CANCELED, 2, 100, "Q"),
    ]


def test_orders_of_others_are_not_answered_and_not_canceled(client):
    client.gateway.publish(client.engine.enter(NewOrder(900, 7, Side.BUY, 60, PRICE)), 77)
    assert client.answers() == []
    assert tell(client, cancel(900), mass_cancel(901)) == [("Mass Cancel Response", 901)]
    assert client.engine.order(900) is not None
    assert tell(client, replace(900, 902)) == []
    assert client.engine.order(900) is not None


# The stream.


@pytest.mark.parametrize("size", [1, 2, 3, 7, 49, 50, 51, 500])
def test_packets_may_be_cut_and_joined_anywhere(client, size):
    stream = enter(1) + enter(2) + cancel(1)
    for at in range(0, len(stream), size):
        client.stream(stream[at : at + size])
    assert client.answers() == [
        (ACCEPTED, 1, 100),
        (ACCEPTED, 2, 100),
        (CANCELED, 1, 100, "U"),
    ]


def test_segment_that_is_not_the_next_one_is_not_used(client):
    data = enter(1)
    for wrong in (CLIENT_SEQUENCE + 1, CLIENT_SEQUENCE - 1):
        client.gateway.receive(tcp_frame(CLIENT, VENUE, wrong, 0, TcpFlag.ACK, data), 77)
    client.gateway.receive(tcp_frame(CLIENT, VENUE, CLIENT_SEQUENCE, 0, TcpFlag.ACK), 77)
    assert client.answers() == []
    assert tell(client, data) == [(ACCEPTED, 1, 100)]


@pytest.mark.parametrize(("source", "destination"), [(STRANGER, VENUE), (CLIENT, STRANGER)])
def test_segment_of_another_connection_is_not_used(client, source, destination):
    frame = tcp_frame(source, destination, CLIENT_SEQUENCE, 0, TcpFlag.ACK, enter(1))
    client.gateway.receive(frame, 77)
    assert client.answers() == []
    assert tell(client, enter(1)) == [(ACCEPTED, 1, 100)]


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00\x00",  # Without even a type.
        b"\x00\x01U",  # Without a message.
        b"\x00\x02U?",
        b"\x00\x02UO",
        b"\x00\x02UX",
        b"\x00\x2eU" + enter(3)[3:48],  # Without its appendage length.
        b"\x00\x31U" + enter(3)[3:50] + b"\0",
        b"\x00\x32U" + enter(3)[3:48] + b"\x00\x02\x01\x01",  # An option cut short.
        b"\x00\x03\xff\xff\xff",
    ],
)
def test_packet_that_is_malformed_is_dropped_and_the_next_one_used(client, packet):
    assert tell(client, packet, packet + enter(1)) == [(ACCEPTED, 1, 100)]


@pytest.mark.parametrize("frame", [b"", bytes(60), b"\xff" * 90])
def test_frame_that_is_none_is_dropped(client, frame):
    client.gateway.receive(frame, 77)
    assert tell(client, enter(1)) == [(ACCEPTED, 1, 100)]


@pytest.mark.parametrize("seed", range(20))
def test_client_gone_mad_does_not_stop_the_venue(seed):
    rng, client = Random(seed), Client()
    for ref in range(1, 150):
        data = bytearray(
            rng.choice(
                (
                    enter(ref),
                    enter(ref, "S"),
                    replace(rng.randrange(1, ref + 1), ref),
                    cancel(ref - 1),
                )
            )
        )
        number_ends = 12 if data[3:4] == b"U" else 8  # Numbers stay, or all later ones are old.
        for _ in range(rng.randrange(3)):
            data[rng.choice((2, 3, *range(number_ends, len(data))))] = rng.randrange(256)
        client.stream(bytes(data))
        frame = bytearray(tcp_frame(CLIENT, VENUE, client.sequence, 0, TcpFlag.ACK, bytes(data)))
        frame[rng.randrange(14, len(frame))] ^= 1 << rng.randrange(8)
        client.gateway.receive(bytes(frame), 77)
    assert len(client.answers()) > 40, f"seed={seed}"
    ref = 0xFFFF_FFFF
    assert tell(client, enter(ref, price=1)) in ([], [(ACCEPTED, ref, 100)])
