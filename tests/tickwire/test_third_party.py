"""Real captures against somebody else's decode of them, field by field.

The ``.txt`` beside a capture is what tshark printed with the Open Markets Initiative's dissectors.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from protocol import ouch50
from protocol.layout import snake

FOLDERS = ("itch50", "itch50_20230822", "ouch50", "jnx_soupbin")
COUNTS = {"itch50": 46, "itch50_20230822": 71, "ouch50": 4, "jnx_soupbin": 2}

ALIASES = {
    "locate_code": "stock_locate",
    "reason": "reason_code",
    "unsequenced_message_type": "type",
}
"""Names that the other decode gives to fields of ours, where they are not the published ones."""

MIDNIGHT_SHOWN = timedelta(hours=5)
"""The other decode shows the exchange's midnight at 05:00, as if it were winter all year."""
MIDNIGHT_UTC = timedelta(hours=4)
"""When it was midnight at the exchange on the days of the captures, all of them in summer."""


def messages_of(text: str) -> list[list[tuple[str, str]]]:
    """Return each message's fields, those of its packet first."""
    messages = []
    for packet in re.split(r"\n\s*\n", text.strip("\n")):
        lines = packet.split("\n")[1:]
        shared: list[tuple[str, str]] = []
        inner: list[list[tuple[str, str]]] = []
        for index, line in enumerate(lines):
            name, _, value = line.strip(" []").partition(":")
            if index + 1 < len(lines) and indent(lines[index + 1]) > indent(line):
                if name == "Message":
                    inner.append([])
                continue
            assert ":" in line
            (inner[-1] if inner else shared).append((name, value.removeprefix(" ")))
        messages += [shared + own for own in inner] or [shared]
    return messages


def indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def value_of(name: str, text: str) -> int | str:
    """Return the value that a field of ours must have."""
    text = text.strip(" ]")
    coded = re.fullmatch(r".+ \((.+)\)", text)
    if coded:
        return coded[1].replace("<whitespace>", " ")
    if name.endswith("price"):
        return int(Decimal(text) * 10_000)
    if name == "timestamp":
        moment, fraction = text.split(".")
        midnight = datetime.fromisoformat(moment[:10]) + MIDNIGHT_SHOWN
        seconds = (datetime.fromisoformat(moment) - midnight) // timedelta(seconds=1)
        return seconds * 10**9 + int(fraction.ljust(9, "0"))
    return "" if text == "No Value" else text


def check(record: dict, fields: list[tuple[str, str]]) -> int:
    """Assert that a record has each field with its value. Return how many there were."""
    for title, text in fields:
        name = snake(title)
        name = ALIASES.get(name, name)
        if name == "optional_field_length":
            assert int(text) + 1 == record["appendage_length"]
        elif name == "enter_order_optional_field":
            tag = re.search(r"\((\d+)\)", text)
            assert tag is not None
            assert ouch50.OPTIONS[int(tag[1])].name in record["appendage"]
        else:
            found = record.get("appendage", {}).get(name, record.get(name))
            assert found is not None, f"no field {name} in {record}"
            expected = value_of(name, text)
            if isinstance(found, int):
                assert (name, found) == (name, int(expected))
            elif len(found) == 1 and expected == "":
                assert (name, found) == (name, " ")
            else:
                assert (name, found) == (name, expected)
    return len(fields)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_field_agrees_with_the_other_decode(data_dir, decode, folder):
    messages = fields = 0
    for path in sorted((data_dir / "pcap" / folder).glob("*.pcap")):
        expected = messages_of(path.with_suffix(".txt").read_text())
        ran = decode(path, "--json")
        assert (ran.code, ran.err) == (0, "")
        for record, shown in zip(ran.objects, expected, strict=True):
            fields += check(record, shown)
            messages += 1
    assert messages == COUNTS[folder]
    assert fields > 2 * messages


@pytest.mark.parametrize("folder", ["itch50", "itch50_20230822"])
def test_no_field_of_ours_is_missing_in_the_other_decode(data_dir, decode, folder):
    ours = {"packet_number", "ts_wire_ns", "protocol", "message"}
    for path in sorted((data_dir / "pcap" / folder).glob("*.pcap")):
        expected = messages_of(path.with_suffix(".txt").read_text())
        for record, shown in zip(decode(path, "--json").objects, expected, strict=True):
            names = {ALIASES.get(snake(title), snake(title)) for title, _ in shown}
            assert set(record) - ours == names


@pytest.mark.parametrize("folder", ["itch50", "itch50_20230822"])
def test_messages_reach_the_wire_within_a_millisecond_of_their_time(data_dir, decode, folder):
    for path in sorted((data_dir / "pcap" / folder).glob("*.pcap")):
        for record in decode(path, "--json").objects:
            wire_ns = record["ts_wire_ns"]
            day = datetime.fromtimestamp(wire_ns // 10**9, UTC).replace(hour=0, minute=0, second=0)
            midnight_ns = int((day + MIDNIGHT_UTC).timestamp()) * 10**9
            assert 0 < wire_ns - midnight_ns - record["timestamp"] < 1_000_000


def test_a_wrong_value_or_a_missing_field_does_not_agree(data_dir, decode):
    path = data_dir / "pcap/itch50/OrderReplaceMessage.pcap"
    (record,) = decode(path, "--json").objects
    (shown,) = messages_of(path.with_suffix(".txt").read_text())
    assert check(record, shown) == len(shown) > 10
    for name in ("price", "shares", "timestamp", "stock_locate", "session", "message_length"):
        changed = {**record, name: record[name] * 2}
        with pytest.raises(AssertionError):
            check(changed, shown)
        with pytest.raises(AssertionError, match=f"no field {name} in"):
            check({k: v for k, v in record.items() if k != name}, shown)
