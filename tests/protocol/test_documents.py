"""Generated tables, and whether the documentation holds the present ones."""

import re
from pathlib import Path

import pytest

from protocol import ethernet, itch50, ouch50
from protocol.emit import CATALOGUE, markdown_table
from protocol.layout import Layout, alpha
from protocol.orders import OrderState
from protocol.reasons import DenyReason

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_documents_are_fresh(capsys):
    paths = sorted(str(path) for path in DOCS.glob("*.md"))
    assert len(paths) >= 4
    status = markdown_table.main(["--check", *paths])
    assert capsys.readouterr().out == ""
    assert status == 0


def test_every_section_is_in_some_document():
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    asked = re.findall(r"<!-- BEGIN GENERATED: (.+?) -->", text)
    assert sorted(asked) == sorted(markdown_table.SECTIONS)


def test_every_layout_is_in_some_section():
    text = "\n".join(make() for make in markdown_table.SECTIONS.values())
    for layout in CATALOGUE.values():
        assert markdown_table.table(layout) in text


def test_table_of_a_message():
    assert markdown_table.table(itch50.MWCB_STATUS) == (
        "| field | offset | length | kind | meaning |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| Message Type | 0 | 1 | text, padded right | `W` |\n"
        "| Stock Locate | 1 | 2 | unsigned integer | "
        "The day's number of the symbol, from 1; 0 for none. |\n"
        "| Tracking Number | 3 | 2 | unsigned integer | Nasdaq's own number. |\n"
        "| Timestamp | 5 | 6 | ns since midnight | Time of the event. |\n"
        "| Breached Level | 11 | 1 | text, padded right | "
        "Level that was breached. `1` level 1; `2` level 2; `3` level 3. |\n"
    )


def test_table_tells_the_parts_of_a_bit_field():
    row = markdown_table.table(ethernet.VLAN_TAG).splitlines()[2]
    assert row == (
        "| Tag Control Information | 0 | 2 | unsigned integer | "
        "Priority, drop eligibility and VLAN. Bits 15:13 Priority: Priority code point. "
        "Bit 12 Drop Eligible: Drop eligible indicator. Bits 11:0 Vlan Id: VLAN identifier. |"
    )


def test_bar_in_a_meaning_does_not_end_the_cell():
    layout = Layout("T", "test", 1, (alpha("A", 0, 1, "x|y"),))
    assert markdown_table.table(layout).splitlines()[2].endswith("| x\\|y |")


def test_heading_tells_size_and_appendage():
    text = markdown_table.layouts([itch50.MWCB_STATUS, ouch50.SYSTEM_EVENT])
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "### MWCB Status (12 bytes)",
        "### System Event (10 bytes, appendage: none)",
    ]


def test_register_table_shows_addresses_and_arrays():
    lines = markdown_table.registers().splitlines()
    assert "| `0x00030` | Kill | rw | 1 | 1: no order leaves. Set after reset. |" in lines
    assert "| `0x00300` + 8 i, i < 18 | Drops | r | 0 | Dropped, by DropReason. |" in lines


def test_transition_table_has_a_row_for_each_legal_pair():
    lines = markdown_table.transitions().splitlines()
    assert len(lines) == 2 + 26
    assert "| `PENDING_CANCEL` | `CANCELED` | `CANCELED` |" in lines


def test_meaning_of_a_code_is_its_docstring():
    meanings = markdown_table.member_docs(DenyReason)
    assert meanings["QUANTITY_ZERO"] == "The order can execute no share."
    assert meanings["NONE"] == ""
    assert list(markdown_table.member_docs(OrderState)) == [state.name for state in OrderState]


STALE = "a\n<!-- BEGIN GENERATED: registers -->\nold\n<!-- END GENERATED -->\nb\n"


def test_check_names_a_stale_file_and_leaves_it(tmp_path, capsys):
    path = tmp_path / "page.md"
    path.write_text(STALE)
    assert markdown_table.main(["--check", str(path)]) == 1
    assert capsys.readouterr().out == (
        f"{path}: stale, run python -m protocol.emit.markdown_table {path}\n"
    )
    assert path.read_text() == STALE


def test_rewrite_touches_only_what_is_between_the_marks(tmp_path, capsys):
    path = tmp_path / "page.md"
    path.write_text(STALE)
    assert markdown_table.main([str(path)]) == 0
    assert path.read_text() == STALE.replace("old\n", f"\n{markdown_table.registers()}\n")
    assert markdown_table.main(["--check", str(path)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STALE.replace("registers", "nothing"), "generated part must be one of "),
        (STALE.replace("<!-- END GENERATED -->", ""), "BEGIN GENERATED without END GENERATED"),
        (
            STALE.replace("old", "<!-- BEGIN GENERATED: registers -->"),
            "BEGIN GENERATED without END GENERATED",
        ),
    ],
)
def test_marks_that_mean_nothing_are_reported(text, message, tmp_path, capsys):
    path = tmp_path / "page.md"
    path.write_text(text)
    assert markdown_table.main([str(path)]) == 1
    assert capsys.readouterr().out.startswith(f"{path}: {message}")
    assert path.read_text() == text


def test_no_file_is_a_mistake(capsys):
    assert markdown_table.main(["--check"]) == 2
    assert capsys.readouterr().err.startswith("usage: ")
