"""Nasdaq's own client, ``nasdaq-protocols``, with OUCH 5.0 in its own XML form, on the venue."""

import asyncio
import importlib.util
import sys
from xml.etree import ElementTree

import pytest

from protocol import ouch50
from protocol.layout import Kind
from sim.venue.journal import Journal
from sim.venue.server import VenueServer
from tests.venue.socket_client import PASSWORD, USER, settings

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TIMEOUT_S = 20
PRICE = 1_000_000
INTEGERS = {2: "uint_2_be", 4: "uint_4_be", 8: "uint_8_be"}
DIRECTIONS = {"incoming": ouch50.INBOUND, "outgoing": ouch50.OUTBOUND}


def name_of(layout, direction):
    """Return the name that a message's class gets; two of them have the same title otherwise."""
    return direction.title() + "".join(word.title() for word in layout.title.split())


def write_definition(path):
    """Write the messages of OUCH 5.0 in the XML that Nasdaq's generator reads."""
    root = ElementTree.Element("root")
    for name in ("enums-root", "fielddef-root", "records-root"):
        ElementTree.SubElement(root, name)
    messages = ElementTree.SubElement(root, "messages-root")
    for direction, family in DIRECTIONS.items():
        for layout in family.layouts:
            ids = {"id": name_of(layout, direction), "message-id": str(layout.code)}
            message = ElementTree.SubElement(messages, "message", {**ids, "direction": direction})
            fields = ElementTree.SubElement(message, "fields")
            for item in layout.fields[1:]:
                ElementTree.SubElement(fields, "field", {"name": item.name, **type_of(item)})
            if layout.appendage is ouch50.Appendage.ALWAYS:
                names = {"name": "appendage_length", "type": "uint_2_be"}
                ElementTree.SubElement(fields, "field", names)
    ElementTree.ElementTree(root).write(path)


def type_of(item):
    if item.kind is not Kind.ALPHA:
        return {"type": INTEGERS[item.length]}
    if item.length == 1:
        return {"type": "char_ascii"}
    return {"type": "str_ascii_n", "length": str(item.length)}


@pytest.fixture(scope="module")
def ouch(tmp_path_factory):
    """The module that Nasdaq's generator makes of the XML."""
    pytest.importorskip("nasdaq_protocols.ouch")
    from nasdaq_protocols.common.message import Generator, Parser

    folder = tmp_path_factory.mktemp("nasdaq")
    write_definition(folder / "ouch50.xml")
    parsed = Parser.parse(str(folder / "ouch50.xml"))
    context = {"record_type": "Record"}
    made = Generator(parsed, "ouch", "tickwire", str(folder), "message_soup_app.mustache")
    (path,) = made.generate(extra_context=context)
    spec = importlib.util.spec_from_file_location("ouch_tickwire", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def made(ouch, layout, **values):
    message = getattr(ouch, name_of(layout, "incoming"))()
    if layout.appendage is ouch50.Appendage.ALWAYS:
        values["appendage_length"] = 0
    for name, value in values.items():
        setattr(message, name, value)
    return message


def enter(ouch, ref, side, quantity):
    return made(
        ouch,
        ouch50.ENTER_ORDER,
        user_ref_num=ref,
        side=side,
        quantity=quantity,
        symbol="AAPL",
        price=PRICE,
        time_in_force="0",
        display="Y",
        capacity="P",
        inter_market_sweep_eligibility="N",
        cross_type="N",
        cl_ord_id=f"order {ref}",
    )


async def answers(session, count):
    """Return the next messages: name of the class, and the fields that tell what happened."""
    found = []
    for _ in range(count):
        message = await asyncio.wait_for(session.receive_message(), TIMEOUT_S)
        names = ("user_ref_num", "quantity", "reason", "cl_ord_id", "event_code")
        fields = [getattr(message, n) for n in names if n in type(message).__annotations__]
        found.append((type(message).__name__.removeprefix("Outgoing"), *fields))
    return found


def test_client_logs_in_trades_is_cut_and_resumes_with_its_fills(ouch):
    async def connect(venue, user, sequence=1):
        remote = ("127.0.0.1", venue.order_port)
        session = venue.exchange.session
        return await ouch.connect_async(remote, user, PASSWORD, session, sequence)

    async def run():
        venue = VenueServer(settings(), Journal(None))
        await venue.start()
        try:
            client = await connect(venue, USER)
            client.send_message(enter(ouch, 1, "S", 100))
            assert await answers(client, 2) == [
                ("SystemEvent", "S"),
                ("OrderAccepted", 1, 100, "order 1"),
            ]
            client.send_message(
                made(
                    ouch,
                    ouch50.REPLACE_ORDER_REQUEST,
                    orig_user_ref_num=1,
                    user_ref_num=2,
                    quantity=150,
                    price=PRICE,
                    time_in_force="0",
                    display="Y",
                    inter_market_sweep_eligibility="N",
                    cl_ord_id="order 2",
                )
            )
            assert await answers(client, 1) == [("OrderReplaced", 2, 150, "order 2")]
            assert client.soup_session.sequence == 3
            client.soup_session._transport.abort()

            other = await connect(venue, "OTHER")
            other.send_message(enter(ouch, 1, "B", 60))
            assert await answers(other, 3) == [
                ("SystemEvent", "S"),
                ("OrderAccepted", 1, 60, "order 1"),
                ("OrderExecuted", 1, 60),
            ]

            client = await connect(venue, USER, sequence=4)
            assert await answers(client, 1) == [("OrderExecuted", 2, 60)]
            client.send_message(made(ouch, ouch50.CANCEL_ORDER_REQUEST, user_ref_num=2, quantity=0))
            # The generated class of a message without fields cannot be packed.
            client.soup_session.send_unseq_data(b"Q")
            client.send_message(
                made(ouch, ouch50.DISABLE_ORDER_ENTRY_REQUEST, user_ref_num=3, firm="FIRM")
            )
            client.send_message(enter(ouch, 4, "B", 10))
            assert await answers(client, 4) == [
                ("OrderCanceled", 2, 90, "U"),
                ("AccountQueryResponse",),
                ("DisableOrderEntryResponse", 3),
                ("Rejected", 4, 0x0C, "order 4"),
            ]
            client.soup_session.logout()
            await other.close()
        finally:
            venue.abort()
            await asyncio.sleep(0.05)

    asyncio.run(run())


def test_client_is_told_why_its_login_is_rejected(ouch):
    async def run():
        venue = VenueServer(settings(), Journal(None))
        await venue.start()
        try:
            remote = ("127.0.0.1", venue.order_port)
            with pytest.raises(ConnectionRefusedError, match="NOT_AUTHORIZED"):
                await ouch.connect_async(remote, USER, "WRONG", "", 1)
            with pytest.raises(ConnectionRefusedError, match="SESSION_NOT_AVAILABLE"):
                await ouch.connect_async(remote, USER, PASSWORD, "NEVER", 1)
        finally:
            venue.abort()
            await asyncio.sleep(0.05)

    asyncio.run(run())
