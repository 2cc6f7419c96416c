"""The server's side of SoupBinTCP, without a socket: bytes in, bytes out.

[SoupBinTCP 4.10] is 4.00 with a heartbeat time that the client may ask for when it logs in. A
session outlives its connections: :class:`Stream` keeps what was sent in it, so that a client may
log in again and go on from any number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique

from protocol import soupbintcp as soup
from protocol.layout import DecodeError

PACKET_LENGTH_MAX = 4096
"""Longest packet that is taken from a client, as its length field says. OUCH needs far less, and a
length that is garbage must not make the server wait for it."""
LOGIN_TIMEOUT_NS = 5_000_000_000
"""A connection that has not logged in for this long is closed."""

_DATA_TYPE = bytes((soup.SEQUENCED_DATA.code,))
_UNSEQUENCED, _HEARTBEAT, _LOGOUT, _DEBUG, _LOGIN = (
    layout.code
    for layout in (
        soup.UNSEQUENCED_DATA,
        soup.CLIENT_HEARTBEAT,
        soup.LOGOUT_REQUEST,
        soup.DEBUG,
        soup.LOGIN_REQUEST,
    )
)
_HEARTBEAT_PACKET = soup.SERVER_HEARTBEAT.pack()
_END_PACKET = soup.END_OF_SESSION.pack()


class SoupError(Exception):
    """What a client sent is not SoupBinTCP, or not now; the connection is to be closed."""


@unique
class Refusal(Enum):
    """Why a login is rejected."""

    NOT_AUTHORIZED = "A"
    NO_SESSION = "S"


def sequenced(message: bytes) -> bytes:
    """Return a Sequenced Data packet."""
    return (len(message) + 1).to_bytes(2, "big") + _DATA_TYPE + message


class Splitter:
    """Cuts a stream of bytes into packets, wherever TCP has cut it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are whole now, each from its type byte on.

        Raises :class:`SoupError` for a length that is 0 or beyond PACKET_LENGTH_MAX.
        """
        if self._rest:
            data = self._rest + data
        packets, at, size = [], 0, len(data)
        while size - at >= 2:
            length = data[at] << 8 | data[at + 1]
            if not 0 < length <= PACKET_LENGTH_MAX:
                raise SoupError(f"packet length must be 1 to {PACKET_LENGTH_MAX}, not {length}")
            if size - at < 2 + length:
                break
            packets.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        self._rest = data[at:]
        return packets


@dataclass
class Stream:
    """What was sent in a session, as packets; the first has number 1.

    Attributes
    ----------
    session : str
        Ten characters at most.
    ended : bool
        Whether nothing will follow.
    """

    session: str
    packets: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def next_sequence(self) -> int:
        """Number of the packet that comes next."""
        return len(self.packets) + 1

    def append(self, message: bytes) -> bytes:
        """Number and keep a message; return its packet."""
        packet = sequenced(message)
        self.packets.append(packet)
        return packet

    def since(self, sequence: int) -> Sequence[bytes]:
        """Return all packets from a number on."""
        return self.packets[sequence - 1 :]


@dataclass(frozen=True, slots=True)
class Login:
    """What a client asked for. ``heartbeat_ns`` is 0 where it did not say. [SoupBinTCP 4.10]"""

    username: str
    password: str
    session: str
    sequence: int
    heartbeat_ns: int = 0


def parse_login(packet: bytes) -> Login:
    """Return the login in a packet, given from its type byte on. Raises :class:`SoupError`."""
    whole = (len(packet)).to_bytes(2, "big") + packet
    size = soup.LOGIN_REQUEST.size
    extra = whole[size:]
    if len(whole) < size or len(extra) not in (0, soup.HEARTBEAT_TIMEOUT.size):
        long = size - 2 + soup.HEARTBEAT_TIMEOUT.size
        raise SoupError(f"login must have {size - 2} or {long} bytes, not {len(packet)}")
    try:
        values = soup.LOGIN_REQUEST.unpack(whole)
        asked = soup.HEARTBEAT_TIMEOUT.unpack(extra) if extra else {"heartbeat_timeout": 0}
    except DecodeError as error:
        raise SoupError(str(error)) from None
    return Login(
        values["username"].strip(),
        values["password"].strip(),
        values["requested_session"].strip(),
        values["requested_sequence_number"],
        asked["heartbeat_timeout"] * 1_000_000,
    )


class Connection:
    """One connection, from login to its end.

    Call :meth:`receive` with what came and :meth:`tick` about every quarter of a second; both
    return the messages that the client sent and leave to ``send`` what it is to be sent.

    Parameters
    ----------
    send : callable
        Takes bytes for the client.
    authorize : callable
        Called with a :class:`Login`; returns the stream that it may have, or why it is rejected.
    on_login : callable
        Called with the login once it was accepted, before anything of the stream is sent.
    now_ns : int
        When the connection was opened, of any clock that does not run backwards.

    Attributes
    ----------
    login : Login or None
        That of the client, once accepted.
    ended : str
        Why the connection is over; empty while it is not. The caller closes it then.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        authorize: Callable[[Login], Stream | Refusal],
        on_login: Callable[[Login], None],
        now_ns: int,
    ):
        self._send = send
        self._authorize = authorize
        self._on_login = on_login
        self._splitter = Splitter()
        self._opened_ns = self._heard_ns = self._said_ns = now_ns
        self._silence_max_ns = soup.SILENCE_MAX_NS
        self.login: Login | None = None
        self.ended = ""

    def receive(self, data: bytes, now_ns: int) -> list[bytes]:
        """Take bytes of the client; return the messages of its Unsequenced Data packets."""
        self._heard_ns = now_ns
        messages: list[bytes] = []
        if self.ended:
            return messages
        try:
            for packet in self._splitter.feed(data):
                kind = packet[0]
                if kind == _UNSEQUENCED and self.login is not None:
                    messages.append(packet[1:])
                else:
                    self._other(kind, packet, now_ns)
                if self.ended:
                    break
        except SoupError as error:
            self.ended = str(error)
        return messages

    def _other(self, kind: int, packet: bytes, now_ns: int) -> None:
        if kind == _LOGIN and self.login is None:
            self._log_in(parse_login(packet), now_ns)
        elif kind == _LOGOUT and self.login is not None:
            self.ended = "logout"
        elif not (kind in (_HEARTBEAT, _DEBUG) and self.login is not None):
            when = "before its login" if self.login is None else "after its login"
            raise SoupError(f"packet type {packet[:1]!r} must not come {when}")

    def _log_in(self, login: Login, now_ns: int) -> None:
        found = self._authorize(login)
        if isinstance(found, Refusal):
            self.say(soup.LOGIN_REJECTED.pack(reject_reason_code=found.value), now_ns)
            self.ended = f"login rejected, {found.value}"
            return
        self.login = login
        if login.heartbeat_ns:
            self._silence_max_ns = login.heartbeat_ns
        # 0 asks for what comes from now on; a number that is yet to come is as good as the next.
        first = min(login.sequence or found.next_sequence, found.next_sequence)
        accepted = soup.LOGIN_ACCEPTED.pack(session=found.session, sequence_number=first)
        self._on_login(login)
        self.say(accepted + b"".join(found.since(first)), now_ns)
        if found.ended:
            self.end(now_ns)

    def say(self, data: bytes, now_ns: int) -> None:
        """Send bytes."""
        self._said_ns = now_ns
        self._send(data)

    def end(self, now_ns: int) -> None:
        """Tell the client that the session is over: nothing more will come in it, ever."""
        if not self.ended and self.login is not None:
            self.say(_END_PACKET, now_ns)
        self.ended = self.ended or "end of session"

    def tick(self, now_ns: int) -> None:
        """Send a heartbeat where nothing else was sent, and notice a client that is gone."""
        if self.ended:
            return
        if self.login is None:
            if now_ns - self._opened_ns >= LOGIN_TIMEOUT_NS:
                self.ended = f"no login for {LOGIN_TIMEOUT_NS // 1_000_000_000} s"
            return
        if now_ns - self._heard_ns >= self._silence_max_ns:
            self.ended = f"silent for {self._silence_max_ns // 1_000_000} ms"
        elif now_ns - self._said_ns >= soup.HEARTBEAT_INTERVAL_NS:
            self.say(_HEARTBEAT_PACKET, now_ns)
