"""A client that trades against itself and hears every answer, however often its session is cut.

As a process, ``python -m tests.venue.trading PORT FILE [COUNT]``, it keeps its answers in a file,
goes on from what it finds there, and ends when all have come. From so many answers on it is slow,
so that there is time to kill it.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.venue.socket_client import SocketClient, login, run, split, told
from tests.venue.test_gateway import enter

ORDERS = 4_000
ANSWERS = 1 + 2 * ORDERS
"""A system event, an answer to each order, and two executions to each second order."""
AGAIN = 50
"""Orders with an answer that are sent again all the same."""
AHEAD = 300
"""Orders that wait for their answers, at most."""
LOGOUT = b"\0\1O"
SLOW_S = 0.02
"""Seconds that a slow process takes for an answer."""


class Trading:
    """A user's session, over one connection after another."""

    def __init__(self, answers: Sequence[bytes] = (), keep: Callable[[bytes], object] = len):
        self.answers = list(answers)
        self.session = ""
        self._keep = keep

    async def live(self, port: int, most: int, cut: Callable[[], object]) -> None:
        """Trade until so many answers are there and cut the session, or end it when all are."""
        wanted = len(self.answers) + 1
        client = await SocketClient.connect(port, login(session=self.session, sequence=wanted))
        session, first = await client.logged_in()
        assert (session, first) == (self.session or session, wanted)
        self.session = session
        heard = 0

        def hear() -> None:
            nonlocal heard
            fresh = client.answers[heard:]
            heard += len(fresh)
            self.answers += fresh
            for packet in fresh:
                self._keep(packet)

        def is_enough(_: SocketClient) -> bool:
            hear()
            return len(self.answers) >= most

        accepted = told(self.answers, "user_ref_num")
        last = max((answer[1] for answer in accepted if answer[0] == "Order Accepted"), default=0)
        orders = [enter(n, "BS"[n % 2], 10) for n in range(max(1, last - AGAIN), ORDERS + 1)]
        sending = asyncio.create_task(_send(client, orders))
        await client.until(is_enough)
        if most < ANSWERS:
            cut()
        else:
            await sending
            client.writer.write(LOGOUT)
        await client.closed()
        hear()
        sending.cancel()

    def check(self) -> None:
        """Check that each answer has come, and come once."""
        assert len(self.answers) == ANSWERS
        messages = told(self.answers, "user_ref_num", "match_number")
        accepted = [message[1] for message in messages if message[0] == "Order Accepted"]
        assert accepted == list(range(1, ORDERS + 1))
        executed = [message[1:] for message in messages if message[0] == "Order Executed"]
        assert sorted(ref for ref, _ in executed) == accepted
        assert len({match for _, match in executed}) == ORDERS // 2


async def _send(client: SocketClient, orders: list[bytes]) -> None:
    for at in range(0, len(orders), 20):
        client.writer.write(b"".join(orders[at : at + 20]))
        while len(client.packets) < at - AHEAD:
            await asyncio.sleep(0)


def kept(path: Path) -> list[bytes]:
    """Return the answers in a file. What a killed client has written in part is taken off it."""
    answers, rest = split(path.read_bytes()) if path.exists() else ([], b"")
    if rest:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - len(rest))
    return answers


def main() -> None:
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    slow_from = int(sys.argv[3]) if len(sys.argv) > 3 else ANSWERS
    answers = kept(path)
    count = len(answers)
    with path.open("ab", buffering=0) as file:

        def keep(packet: bytes) -> None:
            nonlocal count
            file.write(len(packet).to_bytes(2, "big") + packet)
            count += 1
            if count > slow_from:
                time.sleep(SLOW_S)

        run(Trading(answers, keep).live(port, ANSWERS, cut=lambda: None))


if __name__ == "__main__":
    main()
