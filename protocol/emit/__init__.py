"""Emitters: from a declaration to an Amaranth layout, a NumPy dtype, a Scapy layer, a C header, a
documentation table.

Each emitter needs its own library and no other, so a user of one does not pay for the rest.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from protocol import ethernet, glimpse, ip, itch50, moldudp64, ouch50, ring, soupbintcp
from protocol.layout import Layout, LayoutError


def _catalogue() -> dict[str, Layout]:
    found: dict[str, Layout] = {}

    def add(prefix: str, layouts: Iterable[Layout]) -> None:
        for layout in layouts:
            name = prefix + layout.name
            if name in found:
                raise LayoutError(f"two layouts are called {name}")
            found[name] = layout

    add("", (ethernet.ETHERNET, ethernet.VLAN_TAG, ip.IPV4, ip.UDP, ip.TCP))
    add("moldudp64_", (moldudp64.HEADER, moldudp64.BLOCK, moldudp64.REQUEST))
    add("itch50_", itch50.MESSAGES.layouts)
    add("glimpse_", (glimpse.END_OF_SNAPSHOT,))
    add("soupbintcp_", soupbintcp.PACKETS.layouts)
    add("ouch50_", ouch50.INBOUND.layouts)
    add("ouch50_", ouch50.OUTBOUND.layouts)
    add("ouch50_", (ouch50.APPENDAGE_LENGTH, ouch50.TAG_VALUE))
    add("", ring.RECORDS.layouts)
    add("", (ring.CONTROL,))
    return found


CATALOGUE: Mapping[str, Layout] = MappingProxyType(_catalogue())
"""Every layout by a name that is unique over all protocols (``itch50_add_order``)."""
