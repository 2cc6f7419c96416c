"""Captures packed by hand, and the command run on them; venues in processes of their own."""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.venue.process import CONFIG, Process
from tickwire.cli import app

GROUP, PORT = bytes((233, 54, 12, 111)), 26477
CLIENT, SERVER = (bytes((10, 0, 0, 1)), 40000), (bytes((10, 0, 0, 2)), 8003)


class Build:
    """Bytes of frames and files, written with :mod:`struct` from the published headers."""

    @staticmethod
    def ipv4(
        protocol: int, source: bytes, destination: bytes, payload: bytes, **more: Any
    ) -> bytes:
        """Return an Ethernet frame; ``vlans``, ``trailer`` and ``flags_fragment`` are optional."""
        tags = b"".join(b"\x81\x00" + struct.pack(">H", vlan) for vlan in more.get("vlans", ()))
        header = struct.pack(
            ">BBHHHBBH4s4s",
            *(0x45, 0, 20 + len(payload), 1, more.get("flags_fragment", 0x4000), 64, protocol, 0),
            *(source, destination),
        )
        ethernet = bytes(12) + tags + b"\x08\x00"
        return ethernet + header + payload + more.get("trailer", b"")

    def udp(
        self, payload: bytes, port: int = PORT, length: int | None = None, **more: Any
    ) -> bytes:
        size = 8 + len(payload) if length is None else length
        header = struct.pack(">HHHH", 18000, port, size, 0)
        return self.ipv4(17, bytes((10, 0, 0, 9)), GROUP, header + payload, **more)

    def tcp(
        self, payload: bytes, sequence: int, flags: int = 0x18, *, server: bool = False, **more: Any
    ) -> bytes:
        """Return a segment from the client, or from the server."""
        (source, sport), (to, dport) = (SERVER, CLIENT) if server else (CLIENT, SERVER)
        fixed = struct.pack(
            ">HHIIHHHH", sport, dport, sequence % 2**32, 0, 5 << 12 | flags, 999, 0, 0
        )
        return self.ipv4(6, source, to, fixed + payload, **more)

    @staticmethod
    def mold(
        messages: Sequence[bytes] = (),
        *,
        count: int | None = None,
        session: bytes = b"000010059B",
        sequence: int = 1,
    ) -> bytes:
        """Return a MoldUDP64 packet."""
        count = len(messages) if count is None else count
        blocks = b"".join(struct.pack(">H", len(m)) + m for m in messages)
        return session + struct.pack(">QH", sequence, count) + blocks

    @staticmethod
    def soup(kind: bytes, payload: bytes = b"") -> bytes:
        """Return a SoupBinTCP packet."""
        return struct.pack(">H", len(payload) + 1) + kind + payload

    @staticmethod
    def pcap(
        frames: Sequence[bytes],
        *,
        order: str = "<",
        magic: int = 0xA1B23C4D,
        link_type: int = 1,
        times: Sequence[tuple[int, int]] = (),
    ) -> bytes:
        """Return a capture. Without ``times`` packet n has n seconds and n units."""
        parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)]
        for number, frame in enumerate(frames, 1):
            seconds, units = times[number - 1] if times else (number, number)
            parts.append(
                struct.pack(order + "IIII", seconds, units, len(frame), len(frame)) + frame
            )
        return b"".join(parts)

    @staticmethod
    def itch(*messages: bytes) -> bytes:
        """Return a BinaryFILE without its end mark."""
        return b"".join(struct.pack(">H", len(m)) + m for m in messages)

    @staticmethod
    def delete(reference: int = 7) -> bytes:
        """Return the 19 bytes of an Order Delete of stock locate 13, 1 ns after midnight."""
        return b"D" + struct.pack(">HH", 13, 0) + bytes(5) + b"\x01" + struct.pack(">Q", reference)


@dataclass(frozen=True)
class Ran:
    """What ``tickwire decode`` did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture(scope="session")
def build() -> Build:
    """Builders of frames and files."""
    return Build()


@pytest.fixture(scope="session")
def decode(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Run ``tickwire decode`` on a path, or on bytes that become a file."""
    folder = tmp_path_factory.mktemp("decode")

    def run(content: Path | bytes, *options: str) -> Ran:
        path = content
        if isinstance(content, bytes):
            path = folder / "input"
            path.write_bytes(content)
        result = CliRunner().invoke(app, ["decode", str(path), *options])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def start(tmp_path):
    """Start venues that are killed when the test is over."""
    started = []

    def make(text: str = CONFIG, *options: str, **more: int) -> Process:
        path = tmp_path / "venues.toml"
        path.write_text(text)
        started.append(Process(path, *options, **more))
        return started[-1]

    yield make
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()
