"""What the gate's stages are made of: registers, memories, kernels, and the sweep after reset."""

from amaranth.hdl import Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory

from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline

CLOCK_MHZ = 156.25


class Stages:
    """Adds to a module what its stages need.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        Takes everything.
    rows_most : int
        Rows of the deepest memory.

    Attributes
    ----------
    sweeping : Signal
        After a reset, while every memory is swept, one row a cycle.
    sweep_address : Signal
        The row.
    """

    def __init__(self, m, rows_most):
        self.m = m
        self.sweeping = sweeping = Signal(init=1, name="sweeping")
        self.sweep_address = sweep_address = Signal(range(rows_most), name="sweep_address")
        with m.If(sweeping):
            m.d.sync += sweep_address.eq(sweep_address + 1)
            with m.If(sweep_address == rows_most - 1):
                m.d.sync += sweeping.eq(0)

    def later(self, value, cycles, name):
        """Return a value of so many cycles before."""
        for cycle in range(cycles):
            value = self.held(value, value.shape(), f"{name}_{cycle + 1}")
        return value

    def held(self, value, shape, name):
        """Return a value a cycle later."""
        after = Signal(shape, name=name, reset_less=True)
        self.m.d.sync += after.eq(value)
        return after

    def later_stb(self, value, cycles, name):
        """Return whether something was so many cycles before; nothing was before a reset."""
        for cycle in range(cycles):
            after = Signal(name=f"{name}_{cycle + 1}")
            self.m.d.sync += after.eq(value)
            value = after
        return value

    def memory(self, name, shape, depth, address, write, write_address, value, swept=0):
        """Return what a memory has at an address in this cycle; ``swept`` after a sweep."""
        self.m.submodules[name] = kept = Memory(shape=shape, depth=depth, init=[])
        read_port, write_port = kept.read_port(domain="comb"), kept.write_port()
        size = len(read_port.addr)
        self.m.d.comb += [
            read_port.addr.eq(address),
            write_port.en.eq(write | self.sweeping),
            write_port.addr.eq(Mux(self.sweeping, self.sweep_address[:size], write_address)),
            flat(write_port.data).eq(Mux(self.sweeping, swept, flat(value))),
        ]
        return read_port.data

    def kernel(self, kernel, latency, name=None, **arguments):
        """Return what a kernel makes of arguments, so many cycles later. Others are zero."""
        plan = schedule(kernel, clock_mhz=CLOCK_MHZ, latency_max=latency)
        self.m.submodules[name or kernel.name] = pipeline = Pipeline(plan)
        for argument, value in arguments.items():
            self.m.d.comb += getattr(pipeline, f"i_{argument}").eq(value)
        result = pipeline.o_result
        for cycle in range(plan.latency, latency):
            after = Signal(result.shape(), name=f"{kernel.name}_{cycle + 1}", reset_less=True)
            self.m.d.sync += after.eq(result)
            result = after
        return result


def flat(value):
    """Return a record as its bits."""
    return value.as_value() if isinstance(value, data.View) else value
