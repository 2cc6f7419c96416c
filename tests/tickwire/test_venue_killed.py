"""Venue, client or the link between them dies in the middle: each answer comes, and comes once."""

import asyncio
import signal
import subprocess
import sys
import time
from random import Random

from tests.venue.process import REPOSITORY
from tests.venue.socket_client import SocketClient, login, run, split
from tests.venue.test_gateway import cancel, enter
from tests.venue.trading import ANSWERS, Trading, kept

WAIT_S = 60


def some_counts(seed: int) -> list[int]:
    """Return after how many answers something dies, three times."""
    print(f"seed {seed}")
    return sorted(Random(seed).sample(range(100, ANSWERS - 2_000), 3))


def test_venue_that_is_killed_loses_no_answer(start):
    trading = Trading()
    for most in (*some_counts(2), ANSWERS):
        process = start()
        run(trading.live(process.port(), most, cut=process.process.kill))
        if most < ANSWERS:
            assert process.process.wait(30) == -signal.SIGKILL
            assert len(trading.answers) < ANSWERS
    trading.check()


def test_client_that_is_killed_loses_no_answer(start, tmp_path):
    port, path = start().port(), tmp_path / "answers"
    command = [sys.executable, "-m", "tests.venue.trading", str(port), str(path)]
    for most in some_counts(3):
        client = subprocess.Popen([*command, str(most)], cwd=REPOSITORY)
        try:
            deadline = time.monotonic() + WAIT_S
            while not path.exists() or len(split(path.read_bytes())[0]) < most:
                assert client.poll() is None, "the client has ended before it was killed"
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            client.kill()
            assert client.wait(30) == -signal.SIGKILL
        assert len(kept(path)) < ANSWERS
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=WAIT_S)
    Trading(kept(path)).check()


class Link:
    """What stands between a client and a venue, and loses what is under way when it is cut."""

    def __init__(self, port: int):
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.lost = 0
        self._is_cut = False

    async def open(self) -> int:
        """Begin to listen; return the port."""
        self._is_cut = False
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 12):
                if self._is_cut:
                    self.lost += len(data)
                else:
                    writer.write(data)
            writer.close()
        except OSError:
            writer.transport.abort()

    def cut(self) -> None:
        """Lose all that comes from now on, and a little later tell both ends."""
        self._is_cut = True
        asyncio.get_running_loop().call_later(0.05, self.close)

    def close(self) -> None:
        """Have both ends know that there is nothing between them."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._server.close()


def test_link_that_is_cut_loses_no_answer(start):
    link = Link(start().port())
    trading = Trading()

    async def live(most: int) -> None:
        await trading.live(await link.open(), most, cut=link.cut)
        link.close()

    for most in (*some_counts(4), ANSWERS):
        lost = link.lost
        run(live(most))
        if most < ANSWERS:
            assert link.lost > lost
            assert len(trading.answers) < ANSWERS
    trading.check()


def test_book_of_a_killed_venue_stands_again(start):
    async def trade(port: int, data: bytes, count: int, sequence: int) -> list[tuple]:
        client = await SocketClient.connect(port, login("OTHER", sequence=sequence))
        return await client.ask(data, count)

    process = start()
    asked = enter(1, "B", 100, 1_000_000) + enter(2, "B", 50, 1_000_000) + cancel(1, 70)
    assert len(run(trade(process.port(), asked, 4, 1))) == 4
    process.end(signal.SIGKILL)
    process = start()
    answers = run(trade(process.port(), enter(3, "S", 90, 1_000_000), 4, 5))
    assert [answer[:3] for answer in answers] == [
        ("Order Accepted", 3, 90),
        ("Order Executed", 3, 70),
        ("Order Executed", 1, 70),
        ("Order Executed", 3, 20),
    ]
