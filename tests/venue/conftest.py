"""Listeners to a venue's feed."""

import socket
import struct

import pytest

from protocol import moldudp64
from tests.venue.socket_client import GROUP_A, GROUP_B


class Listener:
    """A socket that has joined the group of a line."""

    def __init__(self, line):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((line.group, line.port))
        member = struct.pack("4s4s", *map(socket.inet_aton, (line.group, "127.0.0.1")))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        self._socket.setblocking(False)

    def datagrams(self):
        """Yield what has come."""
        while True:
            try:
                yield self._socket.recv(1 << 16)
            except BlockingIOError:
                return

    def packets(self):
        """Return what has come: sequence number, count, and messages of each packet."""
        found = []
        for data in self.datagrams():
            head = moldudp64.HEADER.unpack(data)
            messages, at = [], moldudp64.HEADER.size
            while at < len(data):
                end = at + 2 + int.from_bytes(data[at : at + 2], "big")
                messages.append(data[at + 2 : end])
                at = end
            found.append((head["sequence_number"], head["message_count"], messages))
        return found

    def close(self):
        self._socket.close()


@pytest.fixture
def listeners():
    """Both lines; skips where there is no multicast on the loopback interface."""
    try:
        found = [Listener(line) for line in (GROUP_A, GROUP_B)]
    except OSError as error:
        pytest.skip(f"no multicast on loopback: {error}")
    yield found
    for listener in found:
        listener.close()
