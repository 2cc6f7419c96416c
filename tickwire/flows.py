"""From payloads to records: MoldUDP64 with ITCH 5.0, SoupBinTCP with OUCH 5.0 or ITCH 5.0.

A record is what is shown of one message: names and values in order, flat but for the options of an
OUCH message. Both flows say with :class:`DecodeError` that bytes make no sense; its offset counts
from the start of the datagram or of the SoupBinTCP packet. ``recognised`` is false until a message
made sense: before that the traffic may be something else altogether.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from protocol import glimpse, itch50, moldudp64, ouch50, soupbintcp
from protocol.layout import DecodeError, Family, Layout
from tickwire.capture import itch50_mismatch

Record: TypeAlias = dict[str, Any]

_GUESSED_SIZE_MAX = 1024
"""Longest SoupBinTCP packet that a stream may begin with: no message is nearly as long."""


def itch50_record(data: bytes, where: Record, context: Record) -> Record:
    """Return a record: ``where``, the name of the message, ``context`` and the message's fields.

    Raises :class:`DecodeError` for a message that is none of ITCH 5.0.
    """
    layout = itch50.MESSAGES.by_code.get(data[0]) if data else None
    if layout is None or layout.size != len(data):
        raise DecodeError(itch50_mismatch(data) if data else "an empty message is not in ITCH 5.0")
    head = {"protocol": "itch50", "message": layout.name}
    return {**where, **head, **context, **layout.unpack(data)}


class MoldFlow:
    """The MoldUDP64 datagrams to one address and port. [MoldUDP64 1.00]"""

    recognised = False

    def records(self, payload: bytes) -> Iterator[Record]:
        """Yield a record a message, or one for a heartbeat or an end of session."""
        header: Record = moldudp64.HEADER.unpack(payload)
        count = header["message_count"]
        if count in (moldudp64.HEARTBEAT, moldudp64.END_OF_SESSION):
            yield self._without_messages(header, payload)
            return
        at = moldudp64.HEADER.size
        for index in range(1, count + 1):
            size = int.from_bytes(payload[at : at + 2], "big")
            remain = len(payload) - at - 2
            if remain < size:
                cut = "its length" if remain < 0 else f"{size} bytes, {remain} remain"
                raise DecodeError(f"message {index} of {count} is cut: {cut}", at)
            message = payload[at + 2 : at + 2 + size]
            context = header | {"message_index": index, "message_length": size}
            yield self._record(message, context, at)
            at += 2 + size
        if at < len(payload):
            raise DecodeError(f"{len(payload) - at} bytes follow the last message", at)

    def _without_messages(self, header: Record, payload: bytes) -> Record:
        end = header["message_count"] == moldudp64.END_OF_SESSION
        message = "end_of_session" if end else "heartbeat"
        size = moldudp64.HEADER.size
        if len(payload) > size:
            raise DecodeError(f"{len(payload) - size} bytes follow a header without messages", size)
        session = header["session"]
        if session and not (session.isascii() and session.replace(" ", "").isalnum()):
            raise DecodeError("the session is not text")
        self.recognised = True
        return {"protocol": "moldudp64", "message": message} | header

    def _record(self, message: bytes, context: Record, at: int) -> Record:
        if not message and self.recognised:
            # It has a place in the sequence and nothing else.
            return {"protocol": "moldudp64", "message": "empty_message"} | context
        try:
            record = itch50_record(message, {}, context)
        except DecodeError as error:
            reason = f"message {context['message_index']} of {context['message_count']}: {error}"
            raise DecodeError(reason, at) from None
        self.recognised = True
        return record


class SoupFlow:
    """The SoupBinTCP packets of one direction of a connection. [SoupBinTCP 4.00]

    What Sequenced Data carries is found out at its first packet and stays: OUCH 5.0, or ITCH 5.0
    as in a GLIMPSE snapshot.
    """

    def __init__(self) -> None:
        self.recognised = False
        self._sequenced_is_itch: bool | None = None
        self._buffer = b""

    def restart(self) -> None:
        """Forget what was begun: another connection follows."""
        self._buffer, self._sequenced_is_itch = b"", None

    def records(self, fresh: bytes) -> Iterator[Record]:
        """Yield a record for each packet that the next bytes of the stream complete."""
        self._buffer += fresh
        while not self.recognised and self._buffer:
            try:
                yield from self._complete()
                return
            except DecodeError:
                # A capture may begin inside a packet. Most segments begin with one.
                whole, self._buffer = self._buffer, fresh
                if self.recognised or whole == fresh:
                    self._buffer = b""
                    raise
        yield from self._complete()

    @property
    def unfinished(self) -> str:
        """What the bytes that wait for more would be; empty where none wait."""
        if len(self._buffer) < 3:
            return f"{len(self._buffer)} bytes of a header" if self._buffer else ""
        size = int.from_bytes(self._buffer[:2], "big")
        title = soupbintcp.PACKETS.identify(self._buffer[2]).title
        return f"{title} claims {size} bytes, {len(self._buffer) - 2} are there"

    def _complete(self) -> Iterator[Record]:
        at = 0
        try:
            while (layout := self._next_header(at)) is not None:
                end = at + 2 + int.from_bytes(self._buffer[at : at + 2], "big")
                if end > len(self._buffer):
                    return
                record = self._record(layout, self._buffer[at:end])
                self.recognised, at = True, end
                yield record
        finally:
            self._buffer = self._buffer[at:]

    def _next_header(self, at: int) -> Layout | None:
        """Return the layout of the next packet, None before its type is there."""
        if len(self._buffer) < at + 3:
            return None
        layout = soupbintcp.PACKETS.identify(self._buffer[at + 2])
        size = int.from_bytes(self._buffer[at : at + 2], "big")
        if layout.code not in soupbintcp.WITH_PAYLOAD:
            if size != layout.size - 2:
                raise DecodeError(f"{layout.title} has {layout.size - 2} bytes, not {size}")
        elif size < 1:
            raise DecodeError("packet length is 0")
        elif not self.recognised and size > _GUESSED_SIZE_MAX:
            raise DecodeError(f"{layout.title} of {size} bytes is longer than any message", 2)
        return layout

    def _record(self, layout: Layout, packet: bytes) -> Record:
        head, payload = layout.unpack(packet), packet[3:]
        if layout is soupbintcp.UNSEQUENCED_DATA:
            return _ouch50_record(ouch50.INBOUND, payload, head)
        if layout is soupbintcp.SEQUENCED_DATA:
            return self._sequenced(payload, head)
        record = {"protocol": "soupbintcp", "message": layout.name} | head
        if layout is soupbintcp.DEBUG:
            record["payload"] = payload.decode("latin-1")
        return record

    def _sequenced(self, payload: bytes, head: Record) -> Record:
        if self._sequenced_is_itch is None:
            try:
                record = _ouch50_record(ouch50.OUTBOUND, payload, head)
                self._sequenced_is_itch = False
            except DecodeError as no_ouch:
                try:
                    record = _glimpse_record(payload, head)
                    self._sequenced_is_itch = True
                except DecodeError as no_itch:
                    raise DecodeError(f"{no_ouch}; {no_itch}", 3) from None
            return record
        if self._sequenced_is_itch:
            return _glimpse_record(payload, head)
        return _ouch50_record(ouch50.OUTBOUND, payload, head)


def _glimpse_record(payload: bytes, head: Record) -> Record:
    """Return the record of an ITCH message or of the End of Snapshot. [GLIMPSE 5.0]"""
    layout: Layout = glimpse.END_OF_SNAPSHOT
    if len(payload) == layout.size and payload[0] == layout.code:
        return {"protocol": "glimpse", "message": layout.name} | head | layout.unpack(payload)
    return itch50_record(payload, {}, head)


def _ouch50_record(family: Family[ouch50.Message], payload: bytes, head: Record) -> Record:
    message, values, options = ouch50.unpack(family, payload)
    record: Record = {"protocol": "ouch50", "message": message.name} | head | values
    if "appendage_length" in values:
        appendage: dict[str, Any] = {}
        for tag, value in options:
            name = ouch50.OPTIONS[tag].name if tag in ouch50.OPTIONS else f"tag_{tag}"
            appendage.setdefault(name, []).append(
                value.hex() if isinstance(value, bytes) else value
            )
        record["appendage"] = {n: v[0] if len(v) == 1 else v for n, v in appendage.items()}
    return record
