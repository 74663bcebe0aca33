"""`python -m server`: read the settings, load the models, serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence

import uvloop
from pydantic import ValidationError

from models.access import is_loopback
from routing.opening import open_routing
from routing.settings import PREFIX as ROUTING_PREFIX
from routing.settings import RoutingSettings
from routing.settings import read_settings as read_routing_settings
from server.app import create_app
from server.auth import AccessPolicy
from server.engines import engine_builder, load_detectors
from server.errors import StartupError
from server.gateway import Gateway
from server.listener import Server, bind
from server.logging import start_logging
from server.metrics import Metrics
from server.opinions import Opinions
from server.routing_metrics import register
from server.sessions import Sessions, session_config, session_options
from server.settings import PREFIX, Settings, describe
from server.traces import TraceFiles
from server.transports.websocket import WebSocketLimits
from streaming.errors import EngineError

_log = logging.getLogger("server")

_OTHERS = (f"{PREFIX}HUB_", f"{PREFIX}WORKER_")
"""What workers read, which may be started from here, and the hub that they load from."""

_FAILED = 2
"""Exit status of a server that could not start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; returns the exit status."""
    try:
        settings = _read_settings(arguments)
        metrics = Metrics()
        listener = start_logging(
            settings.log_level, as_json=settings.log_json, on_drop=metrics.lost_records.labels("log").inc
        )
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, metrics))
        finally:
            listener.stop()
    except StartupError as error:
        print(f"muse: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


async def _serve(settings: Settings, metrics: Metrics) -> None:
    access = _access_policy(settings)
    with bind(settings.host, settings.port) as listener:
        async with contextlib.AsyncExitStack() as held:
            try:
                server = await _start(settings, metrics, access, held)
            except EngineError as error:
                raise StartupError(str(error)) from None
            # uvicorn listens for signals a little later, and raises once more those that stopped it when it is done.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: setattr(server, "should_exit", True))
            _settle()
            await server.serve([listener])


def _settle() -> None:
    """What is there before the first conversation stays: a full collection that looked at all of it, as one does every
    few minutes under load, would hold up everybody for 50 ms and more.
    """
    gc.collect()
    gc.freeze()


async def _start(settings: Settings, metrics: Metrics, access: AccessPolicy, held: contextlib.AsyncExitStack) -> Server:
    """A server that is ready to listen; what it holds is released by `held`."""
    traces = _traces(settings, metrics)
    if traces is not None:
        held.push_async_callback(asyncio.to_thread, traces.close)
    detectors = load_detectors(settings)
    routing = await open_routing(
        read_routing_settings(),
        engines=settings.engine,
        engine_key=settings.engine_key.get_secret_value(),
        build=engine_builder(settings),
        on_error=metrics.engine_failed,
    )
    opinions = Opinions(routing.database)
    gateway = Gateway(
        router=routing.router,
        detectors=detectors,
        new_session=Sessions(config=session_config(settings), options=session_options(settings), traces=traces),
        metrics=metrics,
        max_sessions=settings.max_sessions,
        first_event=settings.first_event_seconds,
        on_turn=(opinions.on_turn,),
    )
    held.push_async_callback(gateway.close)
    held.push_async_callback(routing.close)  # first: nothing is decided any more when the workers are let go
    await gateway.start()
    await routing.control.start()
    register(metrics.registry, routing.router, routing.control)
    app = create_app(
        gateway,
        access=access,
        routing=routing,
        opinions=opinions,
        limits=WebSocketLimits(send_buffer=settings.send_buffer_bytes),
        recording=traces is not None,
    )
    return Server(app, gateway, max_message_bytes=settings.max_message_bytes, drain_seconds=settings.drain_seconds)


def _read_settings(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="Serve Muse: a page to talk to at /, and the OpenAI Realtime protocol at /v1/realtime.",
        epilog=f"settings (environment variables):\n{describe()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("host", "port", "engine"):
        parser.add_argument(f"--{name}", default=None, help=f"instead of {PREFIX}{name.upper()}")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0])
        shown = f"--{name}" if name in given else PREFIX + name.upper()
        raise StartupError(f"{shown}: {first['msg'].removeprefix('Value error, ')}") from None


def _access_policy(settings: Settings) -> AccessPolicy:
    key = settings.api_key.get_secret_value() if settings.api_key else None
    local = is_loopback(settings.host)
    if key is None and not local and not settings.allow_open:
        raise StartupError(
            f"without a key anyone who reaches {settings.host} could talk: set {PREFIX}API_KEY, or {PREFIX}ALLOW_OPEN=1"
        )
    if key is None:
        _log.warning("no %sAPI_KEY is set: whoever reaches this server may talk", PREFIX)
    for name in sorted(os.environ):
        if not _is_setting(name):
            _log.warning("%s is not a setting", name)
    return AccessPolicy(api_key=key, allowed_origins=frozenset(settings.allowed_origins), local=local)


def _is_setting(name: str) -> bool:
    """Whether a variable is nobody's mistake: not ours, or a setting of the server, the router or what they use."""
    if not name.startswith(PREFIX) or name.startswith(_OTHERS):
        return True
    if name.startswith(ROUTING_PREFIX):
        return name.removeprefix(ROUTING_PREFIX).lower() in RoutingSettings.model_fields
    return name.removeprefix(PREFIX).lower() in Settings.model_fields


def _traces(settings: Settings, metrics: Metrics) -> TraceFiles | None:
    if settings.record_dir is None:
        return None
    try:
        traces = TraceFiles(settings.record_dir, metrics.lost_records.labels("trace").inc)
    except OSError as error:
        raise StartupError(f"cannot record into {settings.record_dir}: {error.strerror}") from None
    _log.warning("recording every conversation into %s", settings.record_dir)
    return traces


if __name__ == "__main__":
    sys.exit(main())
