"""Counts of venues, for Prometheus. They are read when somebody asks; nothing is paid before."""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sim.venue.server import VenueServer

_VENUE = (
    ("messages", "Order entry messages taken."),
    ("malformed", "Order entry messages that were malformed."),
    ("logins", "Logins accepted."),
    ("rejected_logins", "Logins rejected."),
    ("feed_messages", "Market data messages."),
    ("rerequests", "Re-requests received."),
    ("rerequests_refused", "Re-requests that were not served."),
)


class VenueCollector(Collector):
    """What venues have counted.

    Parameters
    ----------
    venues : sequence of VenueServer
        Whose counts they are.
    """

    def __init__(self, venues: Sequence[VenueServer]):
        self._venues = venues

    def collect(self) -> Iterator[Any]:
        """Yield every metric."""
        statuses = [(venue.name, venue.status()) for venue in self._venues]
        for name, text in _VENUE:
            family = CounterMetricFamily(f"tickwire_venue_{name}", text, labels=["venue"])
            for venue, status in statuses:
                family.add_metric([venue], status[name])
            yield family
        gauge = GaugeMetricFamily(
            "tickwire_venue_connections", "Connections that are open.", labels=["venue"]
        )
        for venue, status in statuses:
            gauge.add_metric([venue], status["connections"])
        yield gauge
        yield self._lines()
        yield from self._clients()

    def _lines(self) -> Any:
        family = CounterMetricFamily(
            "tickwire_venue_packets",
            "Market data packets of a line, by what became of them.",
            labels=["venue", "line", "fate"],
        )
        for venue in self._venues:
            for output in venue.outputs:
                for fate, count in (
                    ("sent", output.packet_count),
                    ("unsent", output.unsent_count),
                    ("lost", output.line.lost_count),
                    ("duplicated", output.line.duplicate_count),
                    ("reordered", output.line.reordered_count),
                ):
                    family.add_metric([venue.name, output.name, fate], count)
        return family

    def _clients(self) -> Iterator[Any]:
        labels = ["venue", "user"]
        shares = CounterMetricFamily(
            "tickwire_venue_shares", "Shares executed, by how.", labels=[*labels, "liquidity"]
        )
        answers = CounterMetricFamily(
            "tickwire_venue_answers", "Answers of the session.", labels=labels
        )
        refused = CounterMetricFamily(
            "tickwire_venue_refused",
            "Orders rejected by throttle, price increment or script.",
            labels=labels,
        )
        owed = GaugeMetricFamily(
            "tickwire_venue_fees_usd", "Fees owed, less rebates.", labels=labels
        )
        for venue in self._venues:
            for client in venue.exchange.clients:
                who, account = [venue.name, client.user.name], client.account
                shares.add_metric([*who, "made"], account.made_qty)
                shares.add_metric([*who, "taken"], account.taken_qty)
                shares.add_metric([*who, "crossed"], account.crossed_qty)
                answers.add_metric(who, len(client.stream.packets))
                refused.add_metric(who, client.refused_count)
                owed.add_metric(who, account.owed / 1e6)
        yield from (shares, answers, refused, owed)
