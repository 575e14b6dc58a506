"""Both analytics engines, for tests that ask the same of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ledger.stores import empty_tables, opened_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.analytics import AnalyticsEngine


@pytest.fixture(scope="module", params=["chdb", "clickhouse-server"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AnalyticsEngine]:
    with opened_engine(request.param, tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture
def engine(shared: AnalyticsEngine) -> AnalyticsEngine:
    empty_tables(shared)
    return shared
