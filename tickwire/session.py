"""The order connection of a simulated exchange: both ends of it, as if opened and logged in."""

from collections.abc import Callable, Mapping

from protocol.frames import Address
from sim.venue.gateway import Gateway
from sim.venue.matching import MatchingEngine
from sim.venue.publisher import VENUE_IP, VENUE_MAC
from sw.engine import OrderSession

FEED_SESSION = "TICKWIRE01"
"""MoldUDP64 session of a day that is played from an ITCH file."""

_HOST = Address(bytes.fromhex("020000000002"), 0x0A00_0002, 40_000)
_VENUE = Address(VENUE_MAC, VENUE_IP, 26_400)
_HOST_SEQUENCE, _VENUE_SEQUENCE = 1_000_000, 2_000_000
_FIRM = "TICK"


def order_session() -> OrderSession:
    """Return the client's end, to be handed to the card."""
    return OrderSession(
        local_mac=_HOST.mac,
        remote_mac=_VENUE.mac,
        local_ip=_HOST.ip,
        remote_ip=_VENUE.ip,
        local_port=_HOST.port,
        remote_port=_VENUE.port,
        sequence=_HOST_SEQUENCE,
        acknowledgment=_VENUE_SEQUENCE,
        firm=_FIRM,
    )


def order_gateway(
    engine: MatchingEngine, locates: Mapping[str, int], send: Callable[[bytes], None]
) -> Gateway:
    """Return the venue's end, for symbols with their locates; frames for the client go to send."""
    return Gateway(
        engine,
        lambda symbol: locates.get(symbol, 0),
        _VENUE,
        _HOST,
        _VENUE_SEQUENCE,
        _HOST_SEQUENCE,
        send,
    )
