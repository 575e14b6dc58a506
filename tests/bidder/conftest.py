"""Two workers' rows of counters, in a file as the supervisor lays it out."""

from __future__ import annotations

import pytest

from bidder.metrics import create_metrics_file, map_metrics
from market.deployment import Deployment


@pytest.fixture
def deployment(tmp_path):
    made = Deployment(
        folder=str(tmp_path), bid_port=1, notice_port=2, control_port=3, worker_count=2,
        base_url="", notice_key_hex="11" * 32, user_salt_hex="22" * 16,
    )  # fmt: skip
    made.ring_folder.mkdir()
    return made


@pytest.fixture
def rows(deployment):
    create_metrics_file(deployment.metrics_path, deployment)
    return map_metrics(deployment.metrics_path, deployment)
