# amaranth: UnusedElaboratable=no
"""The IPv4 and UDP filter: cocotb bench against the golden model, refused parameters."""

from pathlib import Path

import pytest
from amaranth.hdl import Value

from hw.rtl.wire.ip import IpUdpFilter
from sim.tb.runner import run

HERE = Path(__file__).parent
SEED = 20_251


@pytest.fixture(autouse=True)
def _benches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the simulator's Python find the bench: the runner hands it this process's path."""
    monkeypatch.syspath_prepend(HERE)


@pytest.mark.parametrize("width", [1, 8])
def test_filter_passes_what_the_golden_model_passes(width: int, real_data: Path | None) -> None:
    device = IpUdpFilter(width)
    ports = [
        *(Value.cast(device.i.payload), device.i.valid, Value.cast(device.filters)),
        *(Value.cast(device.o.payload), device.o.valid, device.o_line),
        *(device.drop_stb, device.drop_reason),
    ]
    environment = {
        "WIDTH": str(width),
        "SEED": str(SEED),
        "FRAMES": "2400",
        "CAPTURES": str(real_data / "pcap" / "itch50") if real_data else "",
    }
    assert run(device, ports, f"wire_ip_w{width}", "bench_wire_ip", HERE, environment) == 6


@pytest.mark.parametrize("width", [0, 2, 4, "8"])
def test_filter_of_another_width_is_refused(width: object) -> None:
    with pytest.raises(ValueError) as caught:
        IpUdpFilter(width)
    assert str(caught.value) == f"width must be 1 or 8, not {width!r}"


@pytest.mark.parametrize("name", ["entry_count", "line_count"])
def test_count_that_is_no_number_of_things_is_refused(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        IpUdpFilter(8, **{name: "4"})
    assert str(caught.value) == f"{name} must be an integer, not '4'"
    with pytest.raises(ValueError) as refused:
        IpUdpFilter(8, **{name: 0})
    assert str(refused.value) == f"{name} must be 1 or more, not 0"
