"""A venue's sockets: order entry, market data, re-requests and snapshots, in one asyncio loop."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from msgspec import UNSET

from protocol.units import NS_PER_SECOND
from sim.venue.capture import Capture, CapturedConnection, address_of
from sim.venue.crowd import Crowd
from sim.venue.exchange import Client, Exchange
from sim.venue.glimpse import snapshot
from sim.venue.journal import Journal
from sim.venue.moldudp import HEARTBEAT_INTERVAL_NS
from sim.venue.output import Output
from sim.venue.script import Script
from sim.venue.settings import VenueConfig
from sim.venue.soup import Connection, Login, Refusal, Stream
from sim.venue.timing import Clock, DelayLine, SystemClock, latencies

log = logging.getLogger("tickwire.venue")

CROWD_STEP_S = 0.01
"""How often a flow does what is due."""
TICK_S = 0.1
"""How often timers are looked at: heartbeats, silence, hours and script."""
WRITE_BUFFER_MAX = 1 << 26
"""Bytes that may wait for a client that does not read. It is disconnected beyond."""
CONNECTIONS_MAX = 4096
"""Connections of one venue at a time. More are closed at once."""
_ENDS_SENT = 3
"""End-of-session packets on each line, as any of them may be lost."""


class _Peer(asyncio.Protocol):
    """A client's TCP connection."""

    def __init__(self, venue: "VenueServer", service: "_Service"):
        self._venue = venue
        self._service = service
        self._captured: CapturedConnection | None = None
        self.answers = DelayLine()
        self.client: Client | None = None
        self.name = "nobody"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        venue = self._venue
        self.transport = transport = cast(asyncio.Transport, transport)
        host, port = transport.get_extra_info("peername")[:2]
        self.name = f"{host}:{port}"
        self.soup = Connection(
            self._write, self._authorize, self._logged_in, venue.clock.monotonic_ns()
        )
        if len(venue.peers) >= CONNECTIONS_MAX:
            self.soup.ended = f"{CONNECTIONS_MAX} connections are open"
            transport.abort()
        elif venue.capture is not None:
            here = transport.get_extra_info("sockname")
            ends = address_of(host, port), address_of(here[0], here[1])
            self._captured = CapturedConnection(venue.capture, *ends, venue.clock.wall_ns())
        venue.peers.add(self)

    def data_received(self, data: bytes) -> None:
        if self._captured is not None:
            self._captured.from_client(data, self._venue.clock.wall_ns())
        messages = self.soup.receive(data, self._venue.clock.monotonic_ns())
        if messages:
            if self.client is None:
                self.soup.ended = "a snapshot takes no orders"
            else:
                self._venue.take(self.client, messages)
        if self.soup.ended:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.soup.ended = self.soup.ended or (str(exc) if exc else "closed by the client")
        if self._captured is not None:
            self._captured.close(self._venue.clock.wall_ns())
        self.answers.drop()
        self._venue.left(self)

    def _write(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._captured is not None:
            self._captured.from_server(data, self._venue.clock.wall_ns())
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > WRITE_BUFFER_MAX:
            self.soup.ended = f"does not read: {WRITE_BUFFER_MAX} bytes wait for it"
            self.transport.abort()

    def say(self, data: bytes) -> None:
        """Send bytes, unless the connection is over."""
        if not self.soup.ended:
            self.soup.say(data, self._venue.clock.monotonic_ns())

    def close(self) -> None:
        """Close the connection once all is sent that was written."""
        self.transport.close()

    def _authorize(self, login: Login) -> Stream | Refusal:
        found = self._venue.authorize(login, self._service)
        if isinstance(found, Refusal):
            log.warning(
                "%s: %s: login of %r rejected, %s",
                *(self._venue.name, self.name, login.username, found.name),
            )
            return found
        client, stream = found
        self.client = client
        return stream

    def _logged_in(self, login: Login) -> None:
        self._venue.entered(self, login, self._service)


class _Service:
    """Something that clients log in to: order entry or snapshots."""

    def __init__(self, name: str, is_snapshot: bool):
        self.name = name
        self.is_snapshot = is_snapshot


class _Requests(asyncio.DatagramProtocol):
    """The re-request server."""

    def __init__(self, venue: "VenueServer"):
        self._venue = venue

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        venue = self._venue
        answer = venue.exchange.feed.answer(data)
        venue.rerequest_count += 1
        if venue.capture is not None:
            here = self._transport.get_extra_info("sockname")
            client, server = address_of(addr[0], addr[1]), address_of(here[0], here[1])
            venue.capture.datagram(client, server, data, venue.clock.wall_ns())
            if answer is not None:
                venue.capture.datagram(server, client, answer, venue.clock.wall_ns())
        if answer is None:
            venue.rerequest_refused_count += 1
            log.warning("%s: %s:%d: re-request is not served: %s", venue.name, *addr[:2], data[:32])
        else:
            self._transport.sendto(answer, addr)

    def error_received(self, exc: Exception) -> None:
        log.warning("%s: re-requests: %s", self._venue.name, exc)


class VenueServer:
    """A venue on sockets. :meth:`start` opens it, :meth:`stop` ends its session.

    Parameters
    ----------
    config : VenueConfig
        What it is made of.
    journal : Journal
        Where its session is kept.
    seed : int
        Of everything random.
    clock : Clock
        The time.
    capture : Capture, optional
        Where all traffic goes.

    Raises
    ------
    JournalError
        See :class:`~sim.venue.exchange.Exchange`.

    Attributes
    ----------
    exchange : Exchange
        The venue's rules and books.
    order_port, glimpse_port, rerequest_port : int
        Ports that are listened on, once started; 0 for a service that there is not.
    """

    def __init__(
        self,
        config: VenueConfig,
        journal: Journal,
        seed: int = 1,
        clock: Clock | None = None,
        capture: Capture | None = None,
    ):
        self.config = config
        self.name = config.name
        self.seed = seed
        self.clock = SystemClock() if clock is None else clock
        self.capture = capture
        self.journal = journal
        self.peers: set[_Peer] = set()
        self._peer_of: dict[int, _Peer] = {}
        wall_ns = self.clock.wall_ns()
        self.exchange = Exchange(
            config,
            journal,
            config.session or f"{wall_ns // NS_PER_SECOND % 10**10:010d}",
            _midnight_ns(wall_ns, config.timezone),
            self._deliver,
            self._publish,
        )
        self._script = Script(config.script, self.clock.monotonic_ns())
        self._restored_messages = self.exchange.message_count
        self._requests = DelayLine()
        self._order_ns = latencies(config.latency.order, f"{seed}/{config.name}/order")
        self._answer_ns = latencies(config.latency.answer, f"{seed}/{config.name}/answer")
        self._crowd: Crowd | None = None
        self._crowd_timer: asyncio.TimerHandle | None = None
        self.outputs: list[Output] = []
        self._servers: list[asyncio.Server] = []
        self._datagrams: asyncio.DatagramTransport | None = None
        self._published_ns = 0
        self._storms = self.exchange.is_storming
        self.login_count = self.rejected_login_count = 0
        self.rerequest_count = self.rerequest_refused_count = 0
        self.order_port = self.glimpse_port = self.rerequest_port = 0

    def now_ns(self) -> int:
        """Return the time, ns since midnight."""
        return self.clock.wall_ns() - self.exchange.midnight_ns

    async def start(self) -> None:
        """Open all sockets. Raises :class:`OSError` when one cannot be had."""
        loop, config = asyncio.get_running_loop(), self.config
        try:
            for name, line in zip("AB", config.lines, strict=False):
                seed = f"{self.seed}/{self.name}/{name}"
                self.outputs.append(Output(name, line, config.host, seed, self.clock, self.capture))
            if self.exchange.phase == "":
                self.exchange.command("start", self.now_ns())
            else:
                self._resume()
            services = [(_Service("orders", False), config.order_port)]
            if config.glimpse_port is not None:
                services.append((_Service("glimpse", True), config.glimpse_port))
            ports = []
            for service, port in services:
                server = await loop.create_server(
                    lambda service=service: _Peer(self, service),  # type: ignore[misc]
                    config.host,
                    port,
                    backlog=1024,
                )
                self._servers.append(server)
                ports.append(server.sockets[0].getsockname()[1])
            self.order_port, self.glimpse_port = (*ports, 0)[:2]
            if config.rerequest_port is not None:
                where = (config.host, config.rerequest_port)
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Requests(self), local_addr=where
                )
                self._datagrams = transport
                self.rerequest_port = transport.get_extra_info("sockname")[1]
        except BaseException:
            self._close_sockets()
            raise
        log.info(
            "%s: session %s open on %s: orders %d, glimpse %d, re-requests %d",
            *(self.name, self.exchange.session, config.host),
            *(self.order_port, self.glimpse_port, self.rerequest_port),
        )
        self.tick()
        if config.flow is not None:
            self._run_crowd()

    def _run_crowd(self) -> None:
        """Let the flow do what is due, and come back; it rests while the market is not open."""
        exchange, flow, now_ns = self.exchange, self.config.flow, self.now_ns()
        if self._crowd is None and flow is not None and exchange.phase == "open":
            self._crowd = Crowd(exchange, flow, f"{self.seed}/{self.name}/flow", now_ns)
        if self._crowd is not None and exchange.phase == "open":
            self._crowd.run_until(now_ns)
        loop = asyncio.get_running_loop()
        self._crowd_timer = loop.call_later(CROWD_STEP_S, self._run_crowd)

    def _resume(self) -> None:
        """Go on with the session of the journal. Nobody is connected to it any more."""
        exchange = self.exchange
        log.info(
            "%s: session %s goes on: %d journal entries, %d torn bytes cut off",
            *(self.name, exchange.session, exchange.restored_count, self.journal.cut_bytes),
        )
        if exchange.is_storming:
            exchange.command("storm off", self.now_ns())
        for client in exchange.clients:
            if client.user.cancel_on_disconnect:
                exchange.command(f"disconnect {client.index}", self.now_ns())

    # Clients.

    def authorize(self, login: Login, service: _Service) -> tuple[Client | None, Stream] | Refusal:
        """Return who logs in and to which stream, or why that is rejected."""
        exchange = self.exchange
        for client in exchange.clients:
            user = client.user
            if not client.is_crowd and user.name.upper() == login.username.upper():
                if user.password.upper() != login.password.upper():
                    break
                if login.session not in ("", exchange.session):
                    self.rejected_login_count += 1
                    return Refusal.NO_SESSION
                if service.is_snapshot:
                    return None, self._snapshot()
                return client, client.stream
        self.rejected_login_count += 1
        return Refusal.NOT_AUTHORIZED

    def _snapshot(self) -> Stream:
        exchange, stream = self.exchange, Stream(self.exchange.session)
        messages = snapshot(
            exchange.engine,
            exchange.stocks,
            exchange.opening_messages(),
            exchange.feed.next_sequence,
            exchange.now_ns,
        )
        for message in messages:
            stream.append(message)
        return stream

    def entered(self, peer: _Peer, login: Login, service: _Service) -> None:
        """Take note of a client that has logged in; an older connection of it is closed."""
        self.login_count += 1
        log.info(
            "%s: %s: %s logged in to %s from %d on",
            *(self.name, peer.name, login.username, service.name, login.sequence),
        )
        if peer.client is None:
            return
        older = self._peer_of.get(peer.client.index)
        self._peer_of[peer.client.index] = peer
        if older is not None:
            older.soup.ended = "logged in again from elsewhere"
            older.close()

    def left(self, peer: _Peer) -> None:
        """Take note of a connection that is over."""
        self.peers.discard(peer)
        who = peer.soup.login.username if peer.soup.login else "nobody"
        log.info("%s: %s: %s left: %s", self.name, peer.name, who, peer.soup.ended)
        client = peer.client
        if client is not None and self._peer_of.get(client.index) is peer:
            del self._peer_of[client.index]
            if client.user.cancel_on_disconnect and not self.exchange.is_ended:
                self.exchange.command(f"disconnect {client.index}", self.now_ns())

    # Messages.

    def take(self, client: Client, messages: Sequence[bytes]) -> None:
        """Take messages of a client, after the time that they take to come."""
        delay_ns = self._order_ns() + self._script.delay_ns("slow")
        self._requests.call(delay_ns, self._process, client, messages)

    def _process(self, client: Client, messages: Sequence[bytes]) -> None:
        exchange = self.exchange
        if not self.config.script:
            exchange.receive(client, messages, self.now_ns())
            return
        # A script may change something between any two messages.
        for message in messages:
            self._follow_script()
            exchange.receive(client, (message,), self.now_ns())
        self._follow_script()

    def _deliver(self, client: Client, packets: Sequence[bytes]) -> None:
        peer = self._peer_of.get(client.index)
        if peer is not None:
            delay_ns = self._answer_ns() + self._script.delay_ns("slow", "feed_ahead")
            peer.answers.call(delay_ns, peer.say, b"".join(packets))

    def _publish(self) -> None:
        extra_ns = self._script.delay_ns("feed_behind")
        is_gap, is_a_lost = self._script.is_on("feed_gap"), self._script.is_on("line_a_loss")
        for data in self.exchange.feed.packets():
            self._published_ns = self.clock.monotonic_ns()
            for output in self.outputs:
                if is_gap or (is_a_lost and output.name == "A"):
                    output.line.lost_count += 1
                else:
                    output.put(output.line.carry(data), extra_ns)

    # Time.

    def tick(self) -> None:
        """Do what the time asks for: heartbeats, silence, hours and script."""
        now_ns = self.clock.monotonic_ns()
        for peer in list(self.peers):
            peer.soup.tick(now_ns)
            if peer.soup.ended:
                peer.close()
        if now_ns - self._published_ns >= HEARTBEAT_INTERVAL_NS and not self.exchange.is_ended:
            self._published_ns = now_ns
            heartbeat = self.exchange.feed.heartbeat()
            for output in self.outputs:
                output.put(output.line.release())
                output.put([(0, heartbeat)])
        self._keep_hours()
        self._follow_script()
        if self.capture is not None:
            self.capture.flush()

    def _keep_hours(self) -> None:
        hours, now_ns = self.config.hours, self.now_ns()
        if hours is None:
            return
        if self.exchange.phase == "started" and hours.open_ns <= now_ns < hours.close_ns:
            self.exchange.command("open", now_ns)
            log.info("%s: market is open", self.name)
        if self.exchange.phase in ("started", "open") and now_ns >= hours.close_ns:
            self.exchange.command("close", now_ns)
            log.info("%s: market is closed", self.name)

    def _follow_script(self) -> None:
        if not self.config.script:
            return
        now_ns = self.clock.monotonic_ns()
        count = self.exchange.message_count - self._restored_messages
        for step, begins in self._script.advance(now_ns, count):
            log.info("%s: script: %s %s", self.name, step.action, "begins" if begins else "ends")
            if step.action == "disconnect":
                self._cut(None if step.user is UNSET else step.user)
        storms = self._script.is_on("reject_storm")
        if storms != self._storms:
            self._storms = storms
            self.exchange.command(f"storm {'on' if storms else 'off'}", self.now_ns())

    def _cut(self, user: str | None) -> None:
        for peer in list(self._peer_of.values()):
            if peer.client is not None and user in (None, peer.client.user.name):
                peer.soup.ended = "cut by the script"
                peer.transport.abort()

    def abort(self) -> None:
        """Let go of everything at once, as a process that is killed does."""
        self._close_sockets()
        for peer in list(self.peers):
            peer.transport.abort()
        self.journal.close()

    async def stop(self) -> None:
        """End the session: orders are canceled, clients and feed are told, sockets closed."""
        self._requests.flush()
        self.exchange.command("end", self.now_ns())
        now_ns = self.clock.monotonic_ns()
        for client in self.exchange.clients:
            client.stream.ended = True
        for peer in list(self.peers):
            peer.answers.flush()
            peer.soup.end(now_ns)
            peer.close()
        end = self.exchange.feed.end_of_session()
        for output in self.outputs:
            output.put(output.line.release())
            output.put([(0, end)] * _ENDS_SENT)
        self._close_sockets()
        for _ in range(100):
            if not self.peers:
                break
            await asyncio.sleep(0.01)
        for peer in list(self.peers):
            peer.transport.abort()
        self._log_accounts()
        self.journal.close()

    def _log_accounts(self) -> None:
        for client in self.exchange.clients:
            account = client.account
            log.info(
                "%s: %s made %d, took %d, crossed %d shares and owes %d.%06d USD",
                *(self.name, client.user.name, account.made_qty, account.taken_qty),
                *(account.crossed_qty, *_micro(account.owed)),
            )

    def _close_sockets(self) -> None:
        if self._crowd_timer is not None:
            self._crowd_timer.cancel()
        for server in self._servers:
            server.close()
        if self._datagrams is not None:
            self._datagrams.close()
        for output in self.outputs:
            output.close()

    def status(self) -> dict[str, Any]:
        """Return counts, for who watches the venue."""
        return {
            "messages": self.exchange.message_count,
            "malformed": self.exchange.malformed_count,
            "connections": len(self.peers),
            "logins": self.login_count,
            "rejected_logins": self.rejected_login_count,
            "feed_messages": len(self.exchange.feed.messages),
            "rerequests": self.rerequest_count,
            "rerequests_refused": self.rerequest_refused_count,
        }


def _micro(value: int) -> tuple[int, int]:
    whole, part = divmod(abs(value), 1_000_000)
    return (-whole if value < 0 else whole), part


def _midnight_ns(wall_ns: int, timezone: str) -> int:
    moment = datetime.fromtimestamp(wall_ns // NS_PER_SECOND, ZoneInfo(timezone))
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return int(midnight.timestamp()) * NS_PER_SECOND
