"""A venue without its sockets: clients' messages in, numbered answers and market data out.

What comes out is a function of the settings, and of what came in when. So the journal of what came
in is enough to have everything back: books, answers, order numbers and market data.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from protocol import itch50
from protocol.ouch50 import PRICE_MAX
from protocol.units import NS_PER_SECOND
from sim.venue import itch
from sim.venue.events import Record, events_of, records
from sim.venue.journal import (
    Entry,
    Journal,
    JournalError,
    answers_entry,
    command_entry,
    requests_entry,
    split,
)
from sim.venue.matching import (
    CancelReason,
    Cross,
    Event,
    Executed,
    MatchingEngine,
    RejectReason,
    State,
)
from sim.venue.moldudp import Feed
from sim.venue.ouch import Port
from sim.venue.records import REQUEST
from sim.venue.settings import CROWD, FeesConfig, VenueConfig
from sim.venue.soup import Stream, sequenced

log = logging.getLogger("tickwire.venue")

REJECT_STORM = 0x0A
"""Processing Error. [OUCH 5.0: Appendix D]"""
REJECT_RATE = 0x29
"""Risk: Port Message Rate Restriction."""

_FIRST_ID_BITS = 32


class BatchedEngine(MatchingEngine):
    """A matching engine that serves requests when it is told to, many at once.

    Its methods return no events; :meth:`settle` returns the records of all of them.
    """

    def __init__(self, orders: int = 1024, events: int = 4096) -> None:
        super().__init__(orders, events)
        self._waiting: list[bytes] = []

    def _do(self, *requests: bytes) -> list[Event]:
        self._waiting += requests
        return []

    def settle(self) -> list[Record]:
        """Serve what waits and return what happened and what was published."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        rows = np.frombuffer(bytearray(b"".join(waiting)), REQUEST)
        return records(self._memory.run(rows).tobytes())


@dataclass
class Account:
    """What a client has traded: shares by how, and what it owes for that, in 1e-6 USD."""

    made_qty: int = 0
    taken_qty: int = 0
    crossed_qty: int = 0
    owed: int = 0


class Throttle:
    """Counts messages of one port: ``burst`` at once, and then so many a second."""

    def __init__(self, per_second: int, burst: int):
        self._interval_ns = NS_PER_SECOND // per_second
        self._room_ns = self._interval_ns * burst
        self._free_ns = -self._room_ns

    def is_over(self, now_ns: int) -> bool:
        """Count a message. Returns True, and does not count it, when it is one too many."""
        free = max(self._free_ns, now_ns - self._room_ns)
        if free + self._interval_ns > now_ns:
            return True
        self._free_ns = free + self._interval_ns
        return False


class Client:
    """One user's order entry: its port, and all that was ever sent to it."""

    def __init__(self, exchange: "Exchange", index: int):
        self.index = index
        self.user = exchange.users[index]
        self.is_crowd = self.user is CROWD
        self.stream = Stream(exchange.session)
        self.account = Account()
        self.fresh: list[bytes] = []
        """Packets that are not yet journaled and sent."""
        rate = None if self.is_crowd else exchange.config.throttle
        self.throttle = None if rate is None else Throttle(rate.orders_per_second, rate.burst)
        self.refused_count = 0
        self._exchange = exchange
        participant = index + 1
        self.port = Port(
            exchange.engine,
            exchange.locate_of,
            self._send,
            participant,
            self.user.self_match_rule,
            self.order_id(0),
            self._refuse,
            exchange.settle,
        )

    def order_id(self, ref: int) -> int:
        """Return the engine's id of an order number."""
        return (self.index + 1 << _FIRST_ID_BITS) + ref

    def ref_of(self, order_id: int) -> int | None:
        """Return the order number of an engine's id, None if it is another client's."""
        if order_id >> _FIRST_ID_BITS != self.index + 1:
            return None
        return order_id - self.order_id(0)

    def _send(self, message: bytes) -> None:
        if self.is_crowd:
            return  # Nobody reads it.
        if not self.fresh:
            self._exchange.answered.append(self)
        self.fresh.append(sequenced(message))

    def take(self) -> list[bytes]:
        """Number the fresh packets as part of the stream, and return them."""
        fresh, self.fresh = self.fresh, []
        self.stream.packets += fresh
        return fresh

    def _refuse(self, price: int, now_ns: int) -> int:
        reason = self._reason(price, now_ns)
        self.refused_count += reason != 0
        return reason

    def _reason(self, price: int, now_ns: int) -> int:
        if self._exchange.is_storming and not self.is_crowd:
            return REJECT_STORM
        if self.throttle is not None and self.throttle.is_over(now_ns):
            return REJECT_RATE
        # What is no limit price, a market order's or a wrong one, is the engine's to judge.
        if 0 < price <= PRICE_MAX and price % self._exchange.increment(price):
            return int(RejectReason.INVALID_PRICE)
        return 0


class Exchange:
    """A venue's rules, books, clients and feed.

    Parameters
    ----------
    config : VenueConfig
        What it is made of.
    journal : Journal
        Where everything is kept.
    session : str
        Name of a new session, ten characters at most. One that the journal holds goes on under its
        own name.
    midnight_ns : int
        When the day began, ns since 1970; of a journal's session its own is kept.
    deliver : callable
        Called with client and packets once they are in the journal.
    publish : callable
        Called after market data has been added to the feed.

    Raises
    ------
    JournalError
        If the journal is of other settings, or does not agree with what follows from it.

    Attributes
    ----------
    clients : list of Client
        In the order of the settings.
    answered : list of Client
        Those with packets that are not yet in the journal.
    feed : Feed
        All market data of the session.
    now_ns : int
        Time of the last thing that happened, ns since midnight.
    """

    def __init__(
        self,
        config: VenueConfig,
        journal: Journal,
        session: str,
        midnight_ns: int,
        deliver: Callable[[Client, Sequence[bytes]], None],
        publish: Callable[[], None],
    ):
        self.config = config
        self.session = session
        self.midnight_ns = midnight_ns
        self.journal = journal
        self._deliver = deliver
        self._publish = publish
        self.answered: list[Client] = []
        self.is_storming = False
        self.phase = ""
        self.now_ns = 0
        self.message_count = self.malformed_count = 0
        entries = self._open_journal()
        self.stocks = dict(enumerate(config.symbols, 1))
        self._locates = {stock: locate for locate, stock in self.stocks.items()}
        self.engine = BatchedEngine()
        self.feed = Feed(self.session)
        self._system_events: list[str] = []
        self.users = [*config.users, CROWD] if config.flow is not None else [*config.users]
        self.clients = [Client(self, index) for index in range(len(self.users))]
        self._replay(entries)
        self.feed.skip()
        self.restored_count = len(entries)

    def locate_of(self, symbol: str) -> int:
        """Return a symbol's locate, or 0."""
        return self._locates.get(symbol, 0)

    def increment(self, price: int) -> int:
        """Return what a price must be a multiple of."""
        found = 1
        for start, increment in self.config.price_increments:
            if price < start:
                break
            found = increment
        return found

    @property
    def crowd(self) -> Client | None:
        """Whose the orders of the flow are, if there is one."""
        return self.clients[-1] if self.clients[-1].is_crowd else None

    @property
    def is_ended(self) -> bool:
        """Whether the session is over."""
        return self.phase == "ended"

    # What comes in.

    def receive(self, client: Client, messages: Sequence[bytes], now_ns: int) -> None:
        """Take messages of a client that came together, journal what follows, and deliver it."""
        if self.is_ended or not messages:
            return
        now_ns = max(now_ns, self.now_ns)
        entry = requests_entry(client.index, now_ns, messages)
        self._requests(client, messages, now_ns)
        self._commit(entry)

    def command(self, text: str, now_ns: int) -> None:
        """Do something of the venue's own accord: see :meth:`_command` for what there is."""
        if self.is_ended:
            return
        now_ns = max(now_ns, self.now_ns)
        self._command(text, now_ns)
        self._commit(command_entry(now_ns, text))

    def _requests(self, client: Client, messages: Sequence[bytes], now_ns: int) -> None:
        self.now_ns = now_ns
        if not client.is_crowd:
            self.message_count += len(messages)
        receive = client.port.receive
        for message in messages:
            if not receive(message, now_ns):
                self.malformed_count += 1
        self.settle()

    def _command(self, text: str, now_ns: int) -> None:
        self.now_ns = now_ns
        name, _, argument = text.partition(" ")
        match name:
            case "start":
                self._start()
            case "open":
                self._open()
            case "close":
                self._close()
            case "end":
                if self.phase != "closed":
                    self._close()
                self._system_event("C")
                self.phase = "ended"
            case "storm":
                self.is_storming = argument == "on"
            case "disconnect":
                client = self.clients[int(argument)]
                client.port.disconnect(self._cancel_all, now_ns)
            case _:
                raise JournalError(f"{self.journal.path}: there is no command {text!r}")
        self.settle()

    def _cancel_all(self, participant: int) -> list[Event]:
        return self.engine.mass_cancel(participant, reason=CancelReason.SYSTEM)

    # The day.

    def _start(self) -> None:
        self.phase = "started"
        self._system_event("O")
        for locate, stock in self.stocks.items():
            self.feed.messages.append(_directory(locate, stock, self.now_ns))
        self._system_event("S")
        hours = self.config.hours
        waits = State.TRADING if hours is None else State.HALTED
        if hours is not None and hours.crosses:
            waits = State.QUOTING
        for locate in self.stocks:
            self.engine.set_state(locate, waits)
        for client in self.clients:
            client.port.system_event("S", self.now_ns)
        if hours is None:
            self._system_event("Q")
            self.phase = "open"

    def _open(self) -> None:
        hours = self.config.hours
        for locate in self.stocks:
            if hours is not None and hours.crosses:
                self.engine.cross(locate, Cross.OPENING)
                self.settle()
            self.engine.set_state(locate, State.TRADING)
        self.settle()
        self._system_event("Q")
        self.phase = "open"

    def _close(self) -> None:
        hours = self.config.hours
        self._system_event("M")
        for locate in self.stocks:
            if hours is not None and hours.crosses and self.phase == "open":
                self.engine.cross(locate, Cross.CLOSING)
                self.settle()
            self.engine.close(locate)
        self.settle()
        self._system_event("E")
        for client in self.clients:
            client.port.system_event("E", self.now_ns)
        self.phase = "closed"

    def _system_event(self, code: str) -> None:
        self.settle()
        event = itch50.SYSTEM_EVENT.pack(stock_locate=0, timestamp=self.now_ns, event_code=code)
        self.feed.messages.append(event)
        self._system_events.append(code)

    def opening_messages(self) -> list[bytes]:
        """Return directory, states and system events as they are now, for a snapshot."""
        found = [_directory(locate, stock, self.now_ns) for locate, stock in self.stocks.items()]
        for locate, stock in self.stocks.items():
            found.append(itch.trading_action(locate, stock, self.engine.state(locate), self.now_ns))
        for code in self._system_events:
            found.append(
                itch50.SYSTEM_EVENT.pack(stock_locate=0, timestamp=self.now_ns, event_code=code)
            )
        return found

    # What goes out.

    def settle(self) -> None:
        """Have the engine serve what it was asked, and make answers and market data of it."""
        rows = self.engine.settle()
        if not rows:
            return
        messages = itch.messages_of(rows, self.stocks, self.now_ns)
        self.feed.messages += [message for message, _ in messages]
        events = events_of(rows)
        fees = self.config.fees
        by_owner: dict[int, list[Event]] = {}
        for event in events:
            owner = event.order_id >> _FIRST_ID_BITS
            if owner in by_owner:
                by_owner[owner].append(event)
            else:
                by_owner[owner] = [event]
            if type(event) is Executed:
                self._charge(self.clients[owner - 1].account, event, fees)
        for owner, theirs in by_owner.items():
            self.clients[owner - 1].port.publish(theirs, self.now_ns)

    @staticmethod
    def _charge(account: Account, event: Executed, fees: FeesConfig) -> None:
        qty = event.last_qty
        if event.cross:
            account.crossed_qty += qty
            account.owed += qty * fees.cross_fee
        elif event.is_maker:
            account.made_qty += qty
            account.owed -= qty * fees.maker_rebate
        else:
            account.taken_qty += qty
            account.owed += qty * fees.taker_fee

    def _commit(self, entry: bytes) -> None:
        """Write an entry and the answers that follow from it, and only then deliver them."""
        entries = [entry]
        for client in self.answered:
            first = client.stream.next_sequence
            entries.append(answers_entry(client.index, first, client.fresh))
        self.journal.write(b"".join(entries))
        answered, self.answered = self.answered, []
        for client in answered:
            self._deliver(client, client.take())
        self._publish()

    # The journal.

    def _header(self) -> dict[str, object]:
        settings = msgspec.json.encode(
            (
                self.config.symbols,
                [(user.name, user.self_match) for user in self.config.users],
                self.config.hours,
                self.config.price_increments,
                self.config.throttle,
                *(() if self.config.flow is None else (True,)),
            )
        )
        return {
            "settings": hashlib.sha256(settings).hexdigest(),
            "session": self.session,
            "midnight_ns": self.midnight_ns,
        }

    def _open_journal(self) -> list[Entry]:
        """Return what is to be replayed. A session that has ended is set aside."""
        entries = self.journal.read()
        if any(entry.kind == "C" and entry.body == b"end" for entry in entries):
            ended = msgspec.json.decode(entries[0].body)["session"]
            self.journal.set_aside(ended)
            log.info("%s: session %s had ended, kept aside", self.config.name, ended)
            if ended == self.session:
                raise JournalError(
                    f"{self.journal.path}: session {ended} has ended; give a new one another name"
                )
            entries = []
        if not entries:
            self.journal.write_header(msgspec.json.encode(self._header()))
            return []
        header = msgspec.json.decode(entries[0].body)
        if header["settings"] != self._header()["settings"]:
            raise JournalError(
                f"{self.journal.path}: was written with other symbols, users, hours, "
                "price_increments, throttle or flow"
            )
        self.session, self.midnight_ns = header["session"], header["midnight_ns"]
        return entries[1:]

    def _replay(self, entries: Sequence[Entry]) -> None:
        """Do again what was done, and compare the answers with those that were given."""
        checked = [0] * len(self.clients)
        for entry in entries:
            if entry.kind == "A":
                packets = [sequenced(packet[1:]) for packet in split(entry.body)]
                stream = self.clients[entry.port].stream
                last = entry.number - 1 + len(packets)
                if stream.packets[entry.number - 1 : last] != packets:
                    raise JournalError(
                        f"{self.journal.path}: answer {entry.number} of user "
                        f"{self.clients[entry.port].user.name} does not follow from the requests"
                    )
                checked[entry.port] = last
                continue
            if entry.kind == "R":
                self._requests(self.clients[entry.port], split(entry.body), entry.number)
            else:
                self._command(entry.body.decode(), entry.number)
            for client in self.answered:
                client.take()
            self.answered = []
        # The process ended between requests and answers: nobody has seen them yet.
        for index, client in enumerate(self.clients):
            missing = client.stream.since(checked[index] + 1)
            if missing:
                self.journal.write(answers_entry(index, checked[index] + 1, missing))


def _directory(locate: int, stock: str, now_ns: int) -> bytes:
    return itch50.STOCK_DIRECTORY.pack(
        stock_locate=locate,
        timestamp=now_ns,
        stock=stock,
        market_category="Q",
        financial_status_indicator="N",
        round_lot_size=100,
        round_lots_only="N",
        issue_classification="C",
        issue_sub_type="Z",
        authenticity="T",
        short_sale_threshold_indicator="N",
        ipo_flag="N",
        luld_reference_price_tier="2",
        etp_flag="N",
        etp_leverage_factor=0,
        inverse_indicator="N",
    )
