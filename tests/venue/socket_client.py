"""A client of a venue on sockets, for tests: it keeps every packet and waits for what it names."""

import asyncio
import os
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from protocol import ouch50, soupbintcp
from sim.venue.settings import LineConfig, UserConfig, VenueConfig

T = TypeVar("T")

USER, PASSWORD = "TRADER", "SECRET"
TIMEOUT_S = 20
_OWN = f"{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"
# Groups of this process alone: tests that run beside it hear nothing of these.
GROUP_A, GROUP_B = LineConfig(f"239.193.{_OWN}", 26477), LineConfig(f"239.194.{_OWN}", 26477)


def settings(**more) -> VenueConfig:
    """Return a venue with two users on ports that are free, and no feed unless lines are given."""
    values = {
        "name": "TEST",
        "symbols": ("AAPL", "MSFT"),
        "users": (UserConfig(USER, PASSWORD), UserConfig("OTHER", PASSWORD)),
        "order_port": 0,
        "glimpse_port": 0,
        "rerequest_port": 0,
    }
    return VenueConfig(**(values | more))


def login(
    user: str = USER,
    password: str = PASSWORD,
    session: str = "",
    sequence: int = 1,
    heartbeat_ms: int | None = None,
) -> bytes:
    packet = soupbintcp.LOGIN_REQUEST.pack(
        username=user,
        password=password,
        requested_session=session,
        requested_sequence_number=sequence,
    )
    if heartbeat_ms is None:
        return packet
    extra = soupbintcp.HEARTBEAT_TIMEOUT.pack(heartbeat_timeout=heartbeat_ms)
    return (len(packet) + 3).to_bytes(2, "big") + packet[2:] + extra


def split(stream: bytes) -> tuple[list[bytes], bytes]:
    """Return whole packets, each from its type on, and what is left."""
    packets, at = [], 0
    while at + 2 <= len(stream):
        end = at + 2 + int.from_bytes(stream[at : at + 2], "big")
        if end > len(stream):
            break
        packets.append(stream[at + 2 : end])
        at = end
    return packets, stream[at:]


def told(packets: list[bytes], *names: str) -> list[tuple]:
    """Return title and some fields of the OUCH messages in Sequenced Data packets."""
    wanted = names or ("orig_user_ref_num", "user_ref_num", "quantity", "reason")
    found = []
    for packet in packets:
        if packet[:1] == b"S":
            message, values, _ = ouch50.unpack(ouch50.OUTBOUND, packet[1:])
            found.append((message.title, *(values[name] for name in wanted if name in values)))
    return found


class SocketClient:
    """One connection. Packets are kept in ``packets``, those of Sequenced Data in ``answers``."""

    def __init__(self):
        self.packets: list[bytes] = []
        self._rest = b""
        self._taken = 0

    open: list["SocketClient"] = []  # noqa: RUF012  It is emptied by close_all.

    @classmethod
    async def close_all(cls) -> None:
        """Close every connection that a test has opened."""
        clients, cls.open = cls.open, []
        for client in clients:
            client.writer.transport.abort()
            with suppress(OSError):
                await client.writer.wait_closed()

    @classmethod
    async def connect(cls, port: int, first: bytes = b"") -> "SocketClient":
        client = cls()
        client.reader, client.writer = await asyncio.open_connection("127.0.0.1", port)
        client.writer.write(first)
        cls.open.append(client)
        return client

    @property
    def answers(self) -> list[bytes]:
        return [packet for packet in self.packets if packet[:1] == b"S"]

    async def until(self, condition) -> None:
        """Read until a condition of this client is true."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition(self):
                await self._read()

    async def _read(self) -> None:
        try:
            data = await self.reader.read(1 << 16)
        except OSError:
            data = b""
        if not data:
            raise ConnectionError("closed")
        packets, self._rest = split(self._rest + data)
        self.packets += packets

    async def logged_in(self) -> tuple[str, int]:
        """Return session and sequence number of the login that was accepted."""
        await self.until(lambda self: self.packets)
        assert self.packets[0][:1] == b"A", self.packets
        return self.packets[0][1:11].decode().strip(), int(self.packets[0][11:31])

    async def ask(self, data: bytes, count: int) -> list[tuple]:
        """Send packets and return the next answers, so many."""
        self.writer.write(data)
        return await self.take(count)

    async def take(self, count: int) -> list[tuple]:
        """Return the next answers, so many."""
        await self.until(lambda self: len(self.answers) >= self._taken + count)
        fresh = self.answers[self._taken : self._taken + count]
        self._taken += count
        return told(fresh)

    async def closed(self) -> list[bytes]:
        """Read until the server closes the connection; return all packets."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                while True:
                    await self._read()
            except ConnectionError:
                return self.packets


def run(trading: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine, and close what connections it leaves."""

    async def closing() -> T:
        try:
            return await trading
        finally:
            await SocketClient.close_all()

    return asyncio.run(closing())
