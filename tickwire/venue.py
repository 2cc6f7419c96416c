"""The `venue` command: simulated venues on sockets."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sim.venue.capture import Capture
from sim.venue.journal import Journal, JournalError
from sim.venue.server import TICK_S, VenueServer
from sim.venue.settings import VenueConfig, VenuesConfig
from tickwire.capture import InputError
from tickwire.config import read
from tickwire.outputs import check_output

log = logging.getLogger("tickwire.venue")

METRICS_HOST = "127.0.0.1"
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(message)s"


def run(config: Path, capture: Path | None) -> None:
    """Open every venue of a configuration and keep them open until a signal comes.

    Raises
    ------
    InputError
        For a configuration, a journal, an address or a capture that cannot be used.
    OSError
        When a journal takes no more.
    """
    settings = read(config, VenuesConfig)
    if capture is not None:
        check_output(capture, (config,))
    logging.basicConfig(level=logging.INFO, format=_FORMAT, datefmt="%H:%M:%S")
    asyncio.run(_serve(config, settings, capture))


async def _serve(path: Path, settings: VenuesConfig, capture_path: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    failures: list[BaseException] = []
    loop.set_exception_handler(_failure_handler(failures, stop))
    capture = None if capture_path is None else Capture(capture_path)
    venues: list[VenueServer] = []
    stop_metrics: Callable[[], None] = _nothing
    try:
        for config in settings.venues:
            venues.append(await _open(path, config, settings.seed, capture))
        if settings.metrics_port is not None:
            stop_metrics = _open_metrics(path, settings.metrics_port, venues)
        with _short_collections() as collect:
            while not stop.is_set():
                for venue in venues:
                    venue.tick()
                collect(not any(venue.peers for venue in venues))
                await _wait(stop, TICK_S)
        if not failures:
            for venue in venues:
                await venue.stop()
    except JournalError as error:
        failures.append(error)
    finally:
        for venue in venues:
            venue.abort()
        stop_metrics()
        if capture is not None:
            capture.close()
    if failures:
        raise OSError(str(failures[0]))


@contextmanager
def _short_collections() -> Iterator[Callable[[bool], None]]:
    """Keep the garbage collector from stopping a busy venue; yield what is to be called often.

    A full collection looks at every order that stands: 0.2 s when there are 200,000. Orders and
    messages are in no cycles, and freed without it; closed connections are, and can wait until
    nobody is connected, which is what the call is told.
    """
    was_busy = False

    def collect(is_idle: bool) -> None:
        nonlocal was_busy
        gc.collect(2 if was_busy and is_idle else 1)
        was_busy = not is_idle

    gc.collect()
    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


async def _open(path: Path, config: VenueConfig, seed: int, capture: Capture | None) -> VenueServer:
    try:
        file = None if config.journal is None else path.parent / config.journal
        venue = VenueServer(config, Journal(file), seed, capture=capture)
        await venue.start()
    except JournalError as error:
        raise InputError(path, f"venue {config.name}: {error}") from None
    except OSError as error:
        reason = f"venue {config.name}: cannot be opened: {error.strerror or error}"
        raise InputError(path, reason) from None
    return venue


def _open_metrics(path: Path, port: int, venues: list[VenueServer]) -> Callable[[], None]:
    """Serve counts over HTTP; return what ends that."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server

        from sim.venue.metrics import VenueCollector
    except ImportError:
        raise InputError(path, "metrics_port needs tickwire[venue]") from None
    registry = CollectorRegistry()
    registry.register(VenueCollector(venues))
    try:
        server, _ = start_http_server(port, METRICS_HOST, registry)
    except OSError as error:
        raise InputError(path, f"metrics_port: {error.strerror or error}") from None
    log.info("metrics on http://%s:%d/metrics", METRICS_HOST, server.server_port)

    def close() -> None:
        server.shutdown()
        server.server_close()

    return close


def _failure_handler(failures: list[BaseException], stop: asyncio.Event) -> Callable[..., None]:
    """Return what asyncio calls for an exception that nobody has caught.

    The network's are worth a line, but one a second: without a file descriptor left, asyncio calls
    a thousand times for each connection that it cannot accept. Any other leaves a venue in a state
    that nobody knows, so that nothing more may be sent.
    """
    said_s: dict[str, float] = {}

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError):
            line, now_s = f"{context['message']}: {error}", loop.time()
            if now_s - said_s.get(line, -1) >= 1:
                said_s[line] = now_s
                log.warning("%s", line)
            return
        is_expected = error is None or isinstance(error, JournalError)
        log.critical("%s: %s", context["message"], error, exc_info=None if is_expected else error)
        failures.append(error or RuntimeError(context["message"]))
        stop.set()

    return handle


def _nothing() -> None:
    """End nothing."""
