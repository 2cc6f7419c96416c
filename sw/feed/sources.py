"""Where lost messages can be had again: re-requests and snapshots, as a venue serves them.

Nothing here waits: a question is sent, and what has come is taken when it is looked for.
"""

import errno
import socket
from dataclasses import dataclass

from protocol import moldudp64, soupbintcp
from protocol.layout import DecodeError
from sw.feed.recovery import Messages, Snapshot

_DATAGRAM_MAX = 1 << 16
_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK)


def rerequest(session: str, first: int, count: int) -> bytes:
    """Return a Request Packet. [MoldUDP64 1.00: Request Packet]"""
    return moldudp64.REQUEST.pack(
        session=session, sequence_number=first, requested_message_count=count
    )


def messages_of(datagram: bytes, session: str) -> Messages | None:
    """Return the whole messages of a downstream packet, None if it is none of the session.

    [MoldUDP64 1.00: Downstream Packet]
    """
    try:
        header = moldudp64.HEADER.unpack(datagram[: moldudp64.HEADER.size])
    except DecodeError:
        return None
    if header["session"] != session or header["message_count"] == moldudp64.END_OF_SESSION:
        return None
    messages, at = [], moldudp64.HEADER.size
    for _ in range(int(header["message_count"])):
        start = at + moldudp64.BLOCK.size
        at = start + int.from_bytes(datagram[at:start], "big")
        if start > len(datagram) or at > len(datagram):
            break
        messages.append(datagram[start:at])
    return Messages(int(header["sequence_number"]), messages)


@dataclass(frozen=True, slots=True)
class Login:
    """A snapshot server, and who logs in to it."""

    host: str
    port: int
    username: str
    password: str


class SocketSource:
    """A venue's re-request server over UDP, and its snapshot server over TCP.

    Parameters
    ----------
    session : str
        The feed's.
    rerequests : tuple of str and int
        Address and port of the re-request server.
    snapshots : Login or None
        The snapshot server, if there is one.

    Attributes
    ----------
    fault : str
        What went wrong last, empty when a snapshot was asked for or came since.

    Raises
    ------
    OSError
        If no socket can be had.
    """

    def __init__(self, session: str, rerequests: tuple[str, int], snapshots: Login | None = None):
        self._session = session
        self._snapshots = snapshots
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        self._udp.connect(rerequests)
        self._tcp: socket.socket | None = None
        self._unsent = self._received = b""
        self._messages: list[bytes] = []
        self.fault = ""

    @property
    def has_snapshots(self) -> bool:
        """Whether there are snapshots."""
        return self._snapshots is not None

    def request(self, first: int, count: int, now_ns: int) -> None:
        """Ask for messages. What the network does not take is lost, as any datagram may be."""
        try:
            self._udp.send(rerequest(self._session, first, count))
        except OSError as error:
            self.fault = f"re-request: {error}"

    def snapshot(self, now_ns: int) -> None:
        """Log in to the snapshot server anew; a snapshot that is still coming is given up."""
        self._hang_up("")
        if self._snapshots is None:
            return
        self._unsent = soupbintcp.LOGIN_REQUEST.pack(
            username=self._snapshots.username,
            password=self._snapshots.password,
            requested_session="",
            requested_sequence_number=1,
        )
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._tcp.setblocking(False)
        code = self._tcp.connect_ex((self._snapshots.host, self._snapshots.port))
        if code not in (0, *_UNDER_WAY):
            self._hang_up(f"snapshot: {errno.errorcode.get(code, code)}")

    def poll(self, now_ns: int) -> Messages | Snapshot | None:
        """Return what has come."""
        try:
            found = messages_of(self._udp.recv(_DATAGRAM_MAX), self._session)
        except BlockingIOError:
            found = None
        except OSError as error:  # Nobody listens there.
            self.fault = f"re-request: {error}"
            found = None
        return found or (self._poll_snapshot() if self._tcp is not None else None)

    def close(self) -> None:
        """Give the sockets back."""
        self._hang_up("")
        self._udp.close()

    def _poll_snapshot(self) -> Snapshot | None:
        tcp = self._tcp
        if tcp is None:
            return None
        try:
            if self._unsent:
                self._unsent = self._unsent[tcp.send(self._unsent) :]
            data = tcp.recv(1 << 20)
        except OSError as error:
            if error.errno not in (*_UNDER_WAY, errno.ENOTCONN):
                self._hang_up(f"snapshot: {error}")
            return None
        if not data:
            self._hang_up("snapshot: the server has closed the connection")
            return None
        return self._take(data)

    def _take(self, data: bytes) -> Snapshot | None:
        """Take bytes of a snapshot; return it when it is whole."""
        received, at = self._received + data, 0
        while at + 2 <= len(received):
            end = at + 2 + int.from_bytes(received[at : at + 2], "big")
            if end > len(received):
                break
            kind, payload = received[at + 2 : at + 3], received[at + 3 : end]
            at = end
            if kind == b"J":
                self._hang_up(f"snapshot: login rejected, {payload.decode('latin-1')}")
                return None
            if kind == b"S":
                self._messages.append(payload)
                if payload[:1] == b"G":
                    found = Snapshot(self._messages)
                    self._hang_up("")
                    return found
        self._received = received[at:]
        return None

    def _hang_up(self, fault: str) -> None:
        if self._tcp is not None:
            self._tcp.close()
        self._tcp = None
        self._unsent = self._received = b""
        self._messages = []
        self.fault = fault
