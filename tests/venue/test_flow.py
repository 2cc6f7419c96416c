"""Generated flow: legal by a book that shares no code with it, the same for the same seed."""

from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from sim.venue import flow
from sim.venue.model import ActionsConfig, FlowModel

SYMBOLS = ["AAPL", "MSFT", "BRK.A"]
OPEN_NS = 34_200_000_000_000

# Published lengths, type byte included.
LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "A": 36, "F": 40, "E": 31, "C": 36, "X": 23, "D": 19,
    "U": 35, "P": 44,
}  # fmt: skip


def number(message: bytes, offset: int, length: int) -> int:
    return int.from_bytes(message[offset : offset + length], "big")


def kind(message: bytes) -> str:
    return chr(message[0])


class TinyBook:
    """Orders by reference and the legality of each message. Offsets are those of the tables."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[int, bytes, int, int]] = {}
        self.shares_at: defaultdict[tuple[int, bytes], Counter[int]] = defaultdict(Counter)
        self.ref_last = 0
        self.match_numbers: set[int] = set()
        self.stocks: dict[int, bytes] = {}

    def apply(self, message: bytes) -> None:
        assert len(message) == LENGTHS[kind(message)]
        locate, ref = number(message, 1, 2), number(message, 11, 8)
        match kind(message):
            case "R":
                self.stocks[locate] = message[11:19]
            case "A" | "F":
                assert message[24:32] == self.stocks[locate]
                self.add(
                    ref, locate, message[19:20], number(message, 20, 4), number(message, 32, 4)
                )
            case "E":
                self.match(number(message, 23, 8))
                self.take(locate, ref, number(message, 19, 4))
            case "C":
                self.execute_at(message)
            case "X":
                shares = number(message, 19, 4)
                assert 0 < shares < self.orders[ref][2]
                self.take(locate, ref, shares)
            case "D":
                self.take(locate, ref, self.orders[ref][2])
            case "U":
                _, side, shares, _ = self.orders[ref]
                self.take(locate, ref, shares)
                new_ref, new_shares = number(message, 19, 8), number(message, 27, 4)
                self.add(new_ref, locate, side, new_shares, number(message, 31, 4))
            case "P":
                self.match(number(message, 36, 8))
                bid, ask = self.best(locate)
                assert ref == 0
                assert message[19:20] == b"B"
                assert number(message, 20, 4) > 0
                assert bid < number(message, 32, 4) < ask

    def add(self, ref: int, locate: int, side: bytes, shares: int, price: int) -> None:
        assert ref > self.ref_last
        assert 0 < shares < 1_000_000
        assert price > 0
        assert price % 100 == 0
        assert side in (b"B", b"S")
        self.ref_last = ref
        self.orders[ref] = (locate, side, shares, price)
        self.shares_at[locate, side][price] += shares

    def take(self, locate: int, ref: int, shares: int) -> None:
        of_locate, side, open_shares, price = self.orders.pop(ref)
        assert of_locate == locate
        assert 0 < shares <= open_shares
        level = self.shares_at[locate, side]
        level[price] -= shares
        if not level[price]:
            del level[price]
        if shares < open_shares:
            self.orders[ref] = (locate, side, open_shares - shares, price)

    def match(self, match_number: int) -> None:
        assert match_number not in self.match_numbers
        self.match_numbers.add(match_number)

    def execute_at(self, message: bytes) -> None:
        # Legal when the price is another than the display price and inside the spread.
        locate, ref, price = number(message, 1, 2), number(message, 11, 8), number(message, 32, 4)
        bid, ask = self.best(locate)
        assert bid < price < ask
        assert message[31:32] == b"Y"
        self.match(number(message, 23, 8))
        self.take(locate, ref, number(message, 19, 4))

    def best(self, locate: int) -> tuple[int, int]:
        return max(self.shares_at[locate, b"B"]), min(self.shares_at[locate, b"S"])

    def executes_first(self, message: bytes) -> bool:
        """Whether an execution is of the oldest order of its side's best price."""
        locate, side, _, price = self.orders[number(message, 11, 8)]
        same = [
            ref
            for ref, order in self.orders.items()
            if (order[0], order[1], order[3]) == (locate, side, price)
        ]
        best = self.best(locate)[0 if side == b"B" else 1]
        return price == best and number(message, 11, 8) == min(same)


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    return list(flow.generate(7, SYMBOLS, 30_000))


def book_flow(day: list[bytes]) -> list[bytes]:
    return [message for message in day if kind(message) in "AFECXDUP"]


def test_day_begins_and_ends_as_the_exchange_does(day: list[bytes]) -> None:
    heads = [
        (kind(message), number(message, 1, 2), message[11:19].decode() if n else "")
        for n, message in enumerate(day[:12])
    ]
    assert [head[0] for head in heads] == list("SRRRHHHYYYSS")
    assert heads[1:4] == [("R", 1, "AAPL    "), ("R", 2, "MSFT    "), ("R", 3, "BRK.A   ")]
    assert [day[n][11:12] for n in (0, 10, 11, -3, -2, -1)] == [b"O", b"S", b"Q", b"M", b"E", b"C"]
    assert all(message[19:20] == b"T" for message in day[4:7])
    assert len(day) == 12 + 30_000 + 3
    assert len(book_flow(day)) == 30_000


def test_every_message_is_legal_and_the_book_is_never_locked_or_crossed(day: list[bytes]) -> None:
    book = TinyBook()
    for message in day:
        book.apply(message)
        for locate in range(1, 4):
            if book.shares_at[locate, b"B"] and book.shares_at[locate, b"S"]:
                bid, ask = book.best(locate)
                assert bid < ask
    assert len(book.match_numbers) > 1_000


@pytest.mark.parametrize("seed", range(4))
def test_thin_book_is_legal_and_never_loses_a_side(seed: int) -> None:
    print(f"seed={seed}")
    thin = FlowModel(actions=ActionsConfig(aggressive=0.3, orders=6))
    book = TinyBook()
    for count, message in enumerate(flow.generate(seed, ["AAPL"], 3_000, model=thin)):
        book.apply(message)
        if count > 100:
            bid, ask = book.best(1)
            assert bid < ask
    assert len(book.orders) < 40


def test_executions_follow_price_and_time_priority(day: list[bytes]) -> None:
    # References grow with time and only a replace gives a new one, so the oldest is the smallest.
    book, checked = TinyBook(), 0
    for message in day[:8_000]:
        if kind(message) in "EC":
            assert book.executes_first(message)
            checked += 1
        book.apply(message)
    assert checked > 200


def test_timestamps_never_go_back_and_flow_starts_with_market_hours(day: list[bytes]) -> None:
    times = [number(message, 5, 6) for message in day]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert [number(message, 5, 6) for message in day[11:13]] == [OPEN_NS, OPEN_NS]
    assert times[-4] > OPEN_NS


def test_market_hours_may_start_at_any_time() -> None:
    for start_ns in 0, 80_000_000_000_000:
        times = [number(m, 5, 6) for m in flow.generate(1, ["AAPL"], 500, start_ns=start_ns)]
        assert times == sorted(times)
        assert times[5] == start_ns


def test_twenty_thousand_messages_a_symbol_take_some_minutes(day: list[bytes]) -> None:
    seconds = (number(day[-4], 5, 6) - OPEN_NS) / 1e9
    # 30,000 messages of three symbols at about 70 a second each.
    assert 100 < seconds < 200


def test_arrivals_are_clustered(day: list[bytes]) -> None:
    times = [number(message, 5, 6) for message in book_flow(day)]
    gaps = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    mean = sum(gaps) / len(gaps)
    # A Poisson process has its median at 0.69 of the mean.
    assert gaps[len(gaps) // 2] < 0.2 * mean


def test_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    first = b"".join(flow.generate(11, SYMBOLS, 3_000))
    assert b"".join(flow.generate(11, SYMBOLS, 3_000)) == first
    assert b"".join(flow.generate(12, SYMBOLS, 3_000)) != first


def test_shorter_day_is_the_beginning_of_a_longer_one() -> None:
    short = book_flow(list(flow.generate(5, SYMBOLS, 700)))
    assert book_flow(list(flow.generate(5, SYMBOLS, 1_400)))[:700] == short


@pytest.mark.parametrize(
    ("kinds", "low", "high"),
    [
        ("AF", 40, 50),
        ("F", 1, 3),
        ("D", 35, 45),
        ("EC", 4, 7),
        ("C", 0.05, 0.5),
        ("U", 6.5, 9.5),
        ("X", 1.5, 3.5),
        ("P", 0.2, 0.8),
    ],
)
def test_kinds_of_messages_have_their_share(
    day: list[bytes], kinds: str, low: float, high: float
) -> None:
    counts = Counter(kind(message) for message in book_flow(day))
    percent = 100 * sum(counts[one] for one in kinds) / counts.total()
    assert low < percent < high


def test_busiest_symbol_has_a_narrow_spread_a_moving_price_and_a_deep_book(
    day: list[bytes],
) -> None:
    book = TinyBook()
    spreads: Counter[int] = Counter()
    mids: set[int] = set()
    for count, message in enumerate(day):
        book.apply(message)
        if count > 500 and kind(message) in "AFECXDU":
            bid, ask = book.best(1)
            spreads[(ask - bid) // 100] += 1
            mids.add(bid + ask)
            assert len(book.shares_at[1, b"B"]) >= 3
            assert len(book.shares_at[1, b"S"]) >= 3
    assert sum(spreads[ticks] for ticks in (1, 2, 3)) > 0.99 * spreads.total()
    # In cents: it moves, and not like a rocket.
    assert 4 < (max(mids) - min(mids)) / 200 < 100
    assert 30 < sum(1 for order in book.orders.values() if order[0] == 1) < 400


def test_sizes_are_mostly_round_lots_with_a_heavy_tail(day: list[bytes]) -> None:
    sizes = [number(message, 20, 4) for message in day if kind(message) in "AF"]
    assert 0.75 < sum(size % 100 == 0 for size in sizes) / len(sizes) < 0.95
    assert max(sizes) > 5_000
    assert sorted(sizes)[len(sizes) // 2] <= 200


def test_first_symbol_is_the_busiest_and_references_interleave(day: list[bytes]) -> None:
    adds = [number(message, 1, 2) for message in day if kind(message) in "AF"]
    counts = Counter(adds)
    assert counts[1] > counts[2] > counts[3] > 0
    assert sum(one != other for one, other in pairwise(adds)) > 500


def test_symbols_move_together() -> None:
    day = list(flow.generate(2, ["ONE", "TWO"], 40_000, rate_hz=7.0))
    book = TinyBook()
    mids: tuple[list[float], list[float]] = ([], [])
    next_ns = OPEN_NS + 10**9
    for message in day:
        while kind(message) in "AFECXDUP" and number(message, 5, 6) > next_ns:
            for locate in 1, 2:
                mids[locate - 1].append(sum(book.best(locate)) / 2)
            next_ns += 20 * 10**9
        book.apply(message)
    moves = [[later / earlier - 1 for earlier, later in pairwise(of)] for of in mids]
    dot = sum(one * two for one, two in zip(*moves, strict=True))
    norms = [sum(move * move for move in of) ** 0.5 for of in moves]
    # Expected: 9 / (9 + 16), the common share of the variance.
    assert 0.15 < dot / (norms[0] * norms[1]) < 0.6


@pytest.mark.parametrize(
    ("symbols", "messages", "start_ns", "rate_hz", "reason"),
    [
        ([], 1, 0, 1.0, "symbols must be 1 to 65535, not 0"),
        (["TOOLONGXX"], 1, 0, 1.0, "symbol must be 1 to 8 characters, not 'TOOLONGXX'"),
        ([""], 1, 0, 1.0, "symbol must be 1 to 8 characters, not ''"),
        (["A"], -1, 0, 1.0, "messages=-1, start_ns=0, rate_hz=1.0"),
        (["A"], 1, -1, 1.0, "messages=1, start_ns=-1, rate_hz=1.0"),
        (["A"], 1, 0, 0.0, "messages=1, start_ns=0, rate_hz=0.0"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    symbols: list[str], messages: int, start_ns: int, rate_hz: float, reason: str
) -> None:
    with pytest.raises(ValueError) as error:
        flow.generate(1, symbols, messages, start_ns=start_ns, rate_hz=rate_hz)
    assert str(error.value) == reason
