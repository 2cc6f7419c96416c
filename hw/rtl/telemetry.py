"""What the card measures of itself: time, latencies, and how full its queues were."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import AGE, TIME

FRACTION_BITS = 32
"""A step of card time is in units of 2^-32 ns."""

STEP_BITS = 8 + FRACTION_BITS


CAUSE = data.StructLayout({"sequence": 64, "time": TIME, "age": AGE})
"""A message: its MoldUDP64 number, the card time of its last byte, how old its frame was then."""


def step_of(clock_mhz: float) -> int:
    """Return the step for a clock, in 2^-32 ns. Raises ``ValueError`` below 3.92 MHz."""
    step = round(1e3 / clock_mhz * (1 << FRACTION_BITS))
    if step >= 1 << STEP_BITS:
        raise ValueError(f"clock_mhz must be 3.92 or more, not {clock_mhz!r}")
    return step


class CardClock(wiring.Component):
    """Counts nanoseconds, by a step that may be changed while it runs.

    In each cycle the time grows by ``step``; what is less than a nanosecond is kept, so that the
    error does not grow. A host that measures the card's clock against its own sets the step.

    A change of ``step`` is in ``time`` 2 cycles later.

    Members
    -------
    step : ``In(STEP_BITS)``
        In 2^-32 ns; 0 stops the clock.
    time : ``Out(TIME)``
        Card time in ns, from 0 at reset.
    """

    step: In(STEP_BITS)
    time: Out(TIME)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Two short additions, one a cycle, instead of a long one.
        fraction = Signal(FRACTION_BITS)
        whole = Signal(STEP_BITS - FRACTION_BITS + 1)
        total = fraction + self.step
        m.d.sync += [
            fraction.eq(total[:FRACTION_BITS]),
            whole.eq(total[FRACTION_BITS:]),
            self.time.eq(self.time + whole),
        ]
        return m


class LatencyHistogram(wiring.Component):
    """Counts times by their power of two, with count, sum, shortest and longest.

    Bucket 0 counts times of 0 ns, bucket n those from 2^(n-1) to 2^n - 1, the last one all that are
    longer. A time that does not fit counts as the longest one that does.

    Throughput is 1 time a cycle; a time is in ``count`` 1 cycle later and in its bucket 3 later.
    After reset buckets are emptied for ``bucket_count`` cycles; times that come before that count
    in no bucket. Latency is 2 cycles from ``bucket`` to ``o_bucket``.

    Parameters
    ----------
    bucket_count : int
        2 to 64.
    width : int
        Bits of a time, 1 to 63.

    Members
    -------
    i : ``In(stream.Signature(TIME, always_ready=True))``
        Times in ns.
    bucket : ``In(range(bucket_count))``
        Which bucket is asked for.
    o_bucket : ``Out(32)``
        How many times it has; it stays at its largest value.
    count : ``Out(32)``
        Times that came.
    sum : ``Out(64)``
        Their sum.
    min, max : ``Out(width)``
        Shortest and longest; ``min`` is all ones until a time came.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(self, bucket_count: int = 32, width: int = 40):
        for name, value, least, most in (
            ("bucket_count", bucket_count, 2, 64),
            ("width", width, 1, 63),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, not {value!r}")
        self.bucket_count = bucket_count
        self.width = width
        super().__init__(
            {
                "i": In(stream.Signature(TIME, always_ready=True)),
                "bucket": In(range(bucket_count)),
                "o_bucket": Out(32),
                "count": Out(32),
                "sum": Out(64),
                "min": Out(width, init=(1 << width) - 1),
                "max": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = Memory(shape=32, depth=self.bucket_count, init=[])
        m.submodules.counts = counts
        read = counts.read_port(domain="sync")
        write = counts.write_port()
        shown = counts.read_port(domain="sync")

        # Emptied first: that makes the memory valid.
        sweep = Signal(range(self.bucket_count))
        swept = Signal()
        with m.If(~swept):
            m.d.sync += [sweep.eq(sweep + 1), swept.eq(sweep == self.bucket_count - 1)]

        # Stage 0: the time is cut to its width.
        s0_time = Signal(self.width)
        came = self.i.payload
        m.d.comb += s0_time.eq(came[: self.width] | came[self.width :].any().replicate(self.width))

        # Stage 1: its bucket, its part in sum, shortest and longest.
        s1_valid = Signal()
        s1_time = Signal(self.width, reset_less=True)
        m.d.sync += [s1_valid.eq(self.i.valid), s1_time.eq(s0_time)]
        with m.If(self.i.valid):
            m.d.sync += self.count.eq(self.count + 1)
        with m.If(s1_valid):
            m.d.sync += self.sum.eq(self.sum + s1_time)
            with m.If(s1_time < self.min):
                m.d.sync += self.min.eq(s1_time)
            with m.If(s1_time > self.max):
                m.d.sync += self.max.eq(s1_time)
        s1_bucket = Signal(range(self.bucket_count))
        for bit in range(self.width):  # The last assignment is the highest bit that is set.
            with m.If(s1_time[bit]):
                m.d.comb += s1_bucket.eq(min(bit + 1, self.bucket_count - 1))
        m.d.comb += read.addr.eq(s1_bucket)

        # Stage 2: one more, unless the bucket is full. The one written just now is not read yet.
        s2_valid = Signal()
        s2_bucket = Signal(range(self.bucket_count), reset_less=True)
        written = Signal(range(self.bucket_count), reset_less=True)
        written_valid = Signal()
        written_count = Signal(32, reset_less=True)
        before = Signal(32)
        after = Signal(32)
        is_again = written_valid & (written == s2_bucket)
        m.d.sync += [s2_valid.eq(s1_valid & swept), s2_bucket.eq(s1_bucket)]
        m.d.comb += [
            before.eq(Mux(is_again, written_count, read.data)),
            after.eq(Mux(before.all(), before, before + 1)),
            write.en.eq(s2_valid | ~swept),
            write.addr.eq(Mux(swept, s2_bucket, sweep)),
            write.data.eq(Mux(swept, after, 0)),
        ]
        m.d.sync += [
            written_valid.eq(s2_valid),
            written.eq(s2_bucket),
            written_count.eq(after),
        ]

        m.d.comb += shown.addr.eq(self.bucket)
        m.d.sync += self.o_bucket.eq(shown.data)
        return m


class LatencyMeters(wiring.Component):
    """A histogram for each stage, that share the way out of their buckets.

    Latency is 3 cycles from ``bucket`` to ``o_bucket``; that of a time is the histogram's, and one
    cycle more.

    Parameters
    ----------
    stage_count : int
        How many.
    bucket_count : int
        See :class:`LatencyHistogram`. A power of two.

    Members
    -------
    begin, end : ``In(TIME).array(stage_count)``
        Card times; what is measured is the second less the first.
    end_stb : ``In(stage_count)``
        A stage's times are there.
    bucket : ``In``
        The bucket asked for, with the stage in the upper bits.
    o_bucket : ``Out(32)``
        How many times it has.
    count, sum, min, max : ``Out(64).array(stage_count)``
        See :class:`LatencyHistogram`; in ns.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(self, stage_count: int, bucket_count: int = 32):
        if isinstance(stage_count, bool) or not isinstance(stage_count, int):
            raise TypeError(f"stage_count must be an integer, not {stage_count!r}")
        if stage_count < 1:
            raise ValueError(f"stage_count must be 1 or more, not {stage_count!r}")
        self.histograms = [LatencyHistogram(bucket_count) for _ in range(stage_count)]
        if bucket_count & (bucket_count - 1):
            raise ValueError(f"bucket_count must be a power of two, not {bucket_count!r}")
        self.bucket_count = bucket_count
        super().__init__(
            {
                "begin": In(TIME).array(stage_count),
                "end": In(TIME).array(stage_count),
                "end_stb": In(stage_count),
                "bucket": In(range(stage_count * bucket_count)),
                "o_bucket": Out(32),
                **{name: Out(64).array(stage_count) for name in ("count", "sum", "min", "max")},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = (self.bucket_count - 1).bit_length()
        stage = Signal(range(len(self.histograms)), reset_less=True)
        stage_before = Signal.like(stage)
        m.d.sync += [stage_before.eq(self.bucket[low:]), stage.eq(stage_before)]
        for i, histogram in enumerate(self.histograms):
            m.submodules[f"stage_{i}"] = histogram
            m.d.sync += [
                histogram.i.valid.eq(self.end_stb[i]),
                histogram.i.payload.eq(self.end[i] - self.begin[i]),
            ]
            m.d.comb += histogram.bucket.eq(self.bucket[:low])
            for name in ("count", "sum", "min", "max"):
                m.d.comb += getattr(self, name)[i].eq(getattr(histogram, name))
        m.d.sync += self.o_bucket.eq(Array(each.o_bucket for each in self.histograms)[stage])
        return m


class CauseTimes(wiring.Component):
    """Remembers when messages came in, for who asks later what they have caused.

    The newest message of each ``sequence`` modulo ``depth`` is remembered. Throughput is one
    message and one question a cycle; latency is 2 cycles from a question to ``time``, which stays
    until the next one.

    Parameters
    ----------
    depth : int
        Messages that are remembered; a power of two.

    Members
    -------
    i : ``In(stream.Signature(CAUSE, always_ready=True))``
        A message's number, the card time of its last byte, and how old its frame was then.
    ask : ``In(stream.Signature(64, always_ready=True))``
        A message's number.
    found : ``Out(1)``
        It is remembered.
    time, age : ``Out(TIME)``, ``Out(AGE)``
        When it came, and how old its frame was then.

    Raises
    ------
    TypeError, ValueError
        If ``depth`` is no power of two.
    """

    def __init__(self, depth: int = 1024):
        if isinstance(depth, bool) or not isinstance(depth, int):
            raise TypeError(f"depth must be an integer, not {depth!r}")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, 2 or more, not {depth!r}")
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(CAUSE, always_ready=True)),
                "ask": In(stream.Signature(64, always_ready=True)),
                "found": Out(1),
                "time": Out(TIME),
                "age": Out(AGE),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = (self.depth - 1).bit_length()
        row = data.StructLayout({"used": 1, "upper": 64 - low, "time": TIME, "age": AGE})
        m.submodules.memory = memory = Memory(shape=row, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.en.eq(self.i.valid),
            write.addr.eq(self.i.payload.sequence),
            write.data.used.eq(1),
            write.data.upper.eq(self.i.payload.sequence[low:]),
            write.data.time.eq(self.i.payload.time),
            write.data.age.eq(self.i.payload.age),
            read.addr.eq(self.ask.payload),
        ]
        asked = Signal()
        upper = Signal(64 - low, reset_less=True)
        m.d.sync += [asked.eq(self.ask.valid), upper.eq(self.ask.payload[low:])]
        with m.If(asked):
            m.d.sync += [
                self.found.eq(read.data.used & (read.data.upper == upper)),
                self.time.eq(read.data.time),
                self.age.eq(read.data.age),
            ]
        return m


class HighWater(wiring.Component):
    """Keeps the most that each of some levels ever was; a level counts 1 cycle later.

    Parameters
    ----------
    count : int
        How many levels.
    width : int
        Bits of a level.

    Members
    -------
    levels : ``In(width).array(count)``
        What is in use now.
    o : ``Out(width).array(count)``
        The most there was since reset.
    """

    def __init__(self, count: int, width: int = 16):
        self.count = count
        super().__init__({"levels": In(width).array(count), "o": Out(width).array(count)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for level, most in zip(self.levels, self.o, strict=True):
            with m.If(level > most):
                m.d.sync += most.eq(level)
        return m
