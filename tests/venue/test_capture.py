"""What a venue captures of its own traffic, read back by the project and by tshark."""

import asyncio
import shutil
import socket
import subprocess

import pytest

from protocol import moldudp64
from sim.venue.capture import Capture, CapturedConnection, address_of
from sim.venue.journal import Journal
from sim.venue.server import VenueServer
from tests.venue.socket_client import GROUP_A, GROUP_B, SocketClient, login, run, settings
from tests.venue.test_gateway import cancel, enter, replace
from tickwire.capture import read_frames
from tickwire.transport import Datagram, Segment, dissect

CLIENT, SERVER = address_of("127.0.0.1", 40_000), address_of("127.0.0.1", 26_400)


@pytest.fixture
def session(tmp_path):
    """Capture a session with orders, a loss, a re-request, a snapshot and an end."""
    path = tmp_path / "venue.pcapng"
    capture = Capture(path)

    async def trade():
        lines = (GROUP_A, GROUP_B)
        venue = VenueServer(settings(lines=lines), Journal(None), capture=capture)
        await venue.start()
        client = await SocketClient.connect(venue.order_port, login())
        other = await SocketClient.connect(venue.order_port, login("OTHER"))
        await client.ask(b"".join(enter(n, "S") for n in range(1, 51)), 51)
        await client.ask(replace(1, 60) + cancel(2) + b"\0\1R", 2)
        await other.ask(enter(1, "B", 250), 5)
        late = await SocketClient.connect(venue.glimpse_port, login())
        await late.until(lambda self: self.packets and self.packets[-1][1:2] == b"G")
        loop = asyncio.get_running_loop()
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.setblocking(False)
        link.connect(("127.0.0.1", venue.rerequest_port))
        asked = {"sequence_number": 1, "requested_message_count": 4}
        link.send(moldudp64.REQUEST.pack(session=venue.exchange.session, **asked))
        await asyncio.wait_for(loop.sock_recv(link, 2_000), 20)
        link.close()
        await venue.stop()
        await client.closed()
        return venue

    venue = run(trade())
    capture.close()
    return path, venue


def streams(path):
    """Return the bytes that went each way between two ports, put together by number."""
    found = {}
    for frame in read_frames(path):
        packet = dissect(frame.data)
        if isinstance(packet, Segment) and packet.payload:
            key = (packet.source[1], packet.destination[1])
            found.setdefault(key, []).append((packet.sequence_number, packet.payload))
    return {key: b"".join(part for _, part in sorted(parts)) for key, parts in found.items()}


def test_capture_holds_both_directions_byte_by_byte_and_times_in_order(session):
    path, venue = session
    both = streams(path)
    assert {venue.order_port, venue.glimpse_port} <= {port for key in both for port in key}
    sent = [data for (source, _), data in both.items() if source == venue.order_port]
    for client in venue.exchange.clients:
        answers = b"".join(client.stream.packets)
        assert sum(answers in data for data in sent) == 1
    times = [frame.ts_ns for frame in read_frames(path)]
    assert times == sorted(times)
    datagrams = [p for f in read_frames(path) if isinstance(p := dissect(f.data), Datagram)]
    # Both lines, the re-request and its answer.
    assert len(datagrams) == sum(output.packet_count for output in venue.outputs) + 2


def test_connection_has_a_handshake_segments_that_fit_and_an_end(tmp_path):
    capture = Capture(tmp_path / "x.pcapng")
    connection = CapturedConnection(capture, CLIENT, SERVER, 1_000_000_007)
    connection.from_client(bytes(2_000), 1_000_000_008)
    connection.from_server(b"abc", 1_000_000_009)
    connection.close(1_000_000_010)
    connection.close(1_000_000_011)
    connection.from_client(b"late", 1_000_000_012)
    capture.close()
    frames = list(read_frames(tmp_path / "x.pcapng"))
    assert [frame.ts_ns - 1_000_000_000 for frame in frames] == [7, 7, 7, 8, 8, 9, 10, 10, 10]
    segments = [dissect(frame.data) for frame in frames]
    assert [len(segment.payload) for segment in segments] == [0, 0, 0, 1_460, 540, 3, 0, 0, 0]
    assert [segment.sequence_number for segment in segments] == [
        *(1_000, 2_000, 1_001, 1_001, 2_461, 2_001, 2_004, 3_001, 2_005),
    ]


def test_tshark_finds_nothing_malformed_in_it(session):
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed: apt install tshark")
    path, venue = session
    decode = []
    for kind, port, protocol in (
        ("tcp", venue.order_port, "soupbintcp"),
        ("tcp", venue.glimpse_port, "soupbintcp"),
        ("udp", GROUP_A.port, "moldudp64"),
    ):
        decode += ["-d", f"{kind}.port=={port},{protocol}"]

    def frames(condition: str) -> list[str]:
        command = [tshark, "-r", str(path), *decode, "-Y", condition]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return ran.stdout.splitlines()

    assert frames('_ws.malformed || _ws.expert.severity >= "Warning"') == []
    assert frames("tcp.analysis.flags") == []
    assert len(frames("soupbintcp")) > 10
    assert len(frames("soupbintcp.packet_type == 'S'")) > 3
    assert len(frames("moldudp64")) == sum(output.packet_count for output in venue.outputs)
    assert len(frames("moldudp64.count == 65535")) == 6
