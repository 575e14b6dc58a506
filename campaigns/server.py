"""The control plane's process: campaign API, assets and console on the control port.

    python -m campaigns.server DEPLOYMENT

At start it brings the database up to date, makes sure that the first advertiser has a key in the
run folder (``api_key``, readable by its owner only), and publishes the intent that the database
holds; only then does the port answer. It leaves within two seconds on SIGTERM, SIGINT or the stop
word.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from campaigns.api.app import build_app
from campaigns.api.edge import Services
from campaigns.auth import ensure_first_advertiser
from campaigns.health import EngineWatch
from campaigns.publish import Publisher
from campaigns.rendering import Studio
from campaigns.report import Recorder
from campaigns.store import open_store
from ledger.store import StoreClient
from market.deployment import Deployment, read_deployment
from market.errors import Corrupt, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FIRST_ADVERTISER = "First advertiser"

_WATCH_S = 0.1
_GRACE_S = 1


@contextlib.contextmanager
def open_services(deployment: Deployment, wall: Callable[[], int]) -> Generator[Services]:
    """Opens the store, heals what a crash left, and hands out the services; closes them after.

    Raises:
        Corrupt: the database or the control block is damaged.
        NotReady: the intent cannot be published.
    """
    engine = EngineWatch(deployment.control_path)
    clock = engine.clock(wall)
    store = open_store(deployment.database_path)
    recorder = Recorder(
        f"http://{deployment.host}:{deployment.notice_port}", deployment.ledger_token
    )
    try:
        ensure_first_advertiser(store, deployment.api_key_path, FIRST_ADVERTISER, clock())
        publisher = Publisher(store, deployment.intent_folder)
        publisher.publish()
        asset_url = f"http://{deployment.host}:{deployment.control_port}/assets"
        studio = Studio(deployment.asset_folder, asset_url)
        analytics = StoreClient(deployment.store_socket)
        yield Services(store, publisher, studio, recorder, analytics, engine, clock)
    finally:
        recorder.close()
        store.close()


async def serve(services: Services, listener: socket.socket, is_told: Callable[[], bool]) -> None:
    """Answers on ``listener`` until a signal, the stop word, or until it is told to leave."""
    config = uvicorn.Config(
        build_app(services),
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    watching = asyncio.create_task(_watch(services, server, is_told))
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()


async def _watch(services: Services, server: uvicorn.Server, is_told: Callable[[], bool]) -> None:
    """Looks for the stop word, and publishes again what could not be published before."""
    last_failure = ""
    while True:
        if services.engine.is_stopping or is_told():
            server.should_exit = True
        if services.publisher.is_behind:
            try:
                await asyncio.to_thread(services.publisher.publish)
                last_failure = ""
            except NotReady as error:
                if str(error) != last_failure:
                    last_failure = str(error)
                    logging.getLogger("campaigns").warning("%s", error)
        await asyncio.sleep(_WATCH_S)


def main(deployment_path: str) -> int:
    """Runs the control plane until it is told to leave; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    # A signal that comes before the server runs waits here for it; one that it took itself it
    # passes on once it has shut down, when there is nothing left to do.
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    try:
        deployment = read_deployment(Path(deployment_path))
        with (
            _listener(deployment.host, deployment.control_port) as listener,
            open_services(deployment, lambda: time.time_ns() // 1_000_000) as services,
        ):
            asyncio.run(serve(services, listener, lambda: bool(told)))
    except (Corrupt, NotReady) as error:
        print(error, file=sys.stderr)  # noqa: T201 - one line for the operator
        return 2
    return 0


def _listener(host: str, port: int) -> socket.socket:
    """Returns a socket bound to the control port; it answers once the server listens on it.

    Raises:
        NotReady: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise NotReady(f"control port {host}:{port}: {error}; choose another") from error
    return bound


if __name__ == "__main__":
    code = main(sys.argv[1])
    # Everything is closed; taking the interpreter apart would take longer than leaving may.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
