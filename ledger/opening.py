"""Opening a deployment's store: its engine, or, where its process has that, the way to ask it.

The embedded engine's folder is open in one process at a time. A command beside a running engine
therefore asks the store over its socket, and one beside a stopped engine opens the folder itself.
A ClickHouse server has no such rule.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ledger.analytics import EngineAnalytics
from ledger.store import StoreClient
from market.deployment import read_deployment
from market.errors import BadInput, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ledger.analytics import AnalyticsEngine
    from ledger.chores import Chore, Done
    from ledger.sql import Analytics
    from market.deployment import Deployment


class OpenStore(NamedTuple):
    """A store that can be asked and told.

    Attributes:
        deployment: whose it is; its folder is absolute.
        analytics: answers questions.
        do: has a chore done and returns what was done.
    """

    deployment: Deployment
    analytics: Analytics
    do: Callable[[Chore], Done]


def deployment_of(folder: Path) -> Deployment:
    """Returns the deployment in a run folder, with the folder as an absolute path.

    Raises:
        Corrupt: there is none, or it cannot be read.
    """
    deployment = read_deployment(folder / "deployment.json")
    return msgspec.structs.replace(deployment, folder=str(folder.resolve()))


def open_engine(deployment: Deployment) -> AnalyticsEngine:
    """Returns the deployment's engine.

    Raises:
        NotReady: another process has the folder open, or the server is not there.
        Corrupt: the tables were made by a later build.
    """
    if deployment.analytics_url:
        from ledger.clickhouse import ClickHouseEngine, address_of  # noqa: PLC0415

        return ClickHouseEngine(address_of(deployment.analytics_url))
    from ledger.embedded import ChdbEngine  # noqa: PLC0415

    with _working_in(deployment.root):
        return ChdbEngine(deployment.store_folder)


@contextlib.contextmanager
def open_store(folder: Path) -> Generator[OpenStore]:
    """Opens the store of a run folder, whether its process runs or not.

    Raises:
        Corrupt: there is no deployment in the folder, or it cannot be read.
        BadInput: the store was never started.
        NotReady: it can be neither opened nor asked.
    """
    deployment = deployment_of(folder)
    try:
        engine = open_started_engine(deployment)
    except NotReady:
        if deployment.analytics_url:
            raise
        client = StoreClient(deployment.store_socket)
        client.loaded_sequence()  # whoever has the folder answers, or the error says why not
        yield OpenStore(deployment, client, client.do)
        return
    from ledger.housekeeping import Housekeeper  # noqa: PLC0415

    try:
        yield OpenStore(deployment, EngineAnalytics(engine), Housekeeper(engine).do)
    finally:
        engine.close()


def open_started_engine(deployment: Deployment) -> AnalyticsEngine:
    """Returns the engine of a store that was started before; see ``open_engine``.

    Raises:
        BadInput: the store was never started.
    """
    _check_was_started(deployment)
    return open_engine(deployment)


def _check_was_started(deployment: Deployment) -> None:
    if not deployment.analytics_url and not deployment.store_folder.exists():
        raise BadInput(
            f"run folder {deployment.root}: its store was never started; run the engine first"
        )


@contextlib.contextmanager
def _working_in(folder: Path) -> Generator[None]:
    """Works in a folder for a while: chDB takes a config.xml of the working folder for its own."""
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
