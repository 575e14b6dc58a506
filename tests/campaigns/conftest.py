from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import msgspec
import pytest
import uvicorn

from campaigns.api.app import build_app
from campaigns.auth import Actor, add_advertiser, add_key
from campaigns.server import open_services
from campaigns.store import Role, open_store
from market.campaign import Budget, Campaign, Creative, Goal, GoalKind, LineItem
from market.control import ControlBlock
from market.deployment import Deployment

NOW_MS = 1_760_000_000_000


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path / "campaigns.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def actor(store):
    with store.writing() as session:
        advertiser_id = add_advertiser(session, "A", 0)
    return Actor(advertiser_id, "lk_test", Role.EDITOR)


@pytest.fixture
def asked():
    creative = Creative(width=300, height=250, landing_url="https://shop.example/")
    return Campaign(
        name="Spring sale",
        currency="USD",
        time_zone="Europe/Berlin",
        goal=Goal(kind=GoalKind.TARGET_CPA, target_cpa_micros=5_000_000),
        budget=Budget(daily_micros=100_000_000),
        advertiser_domain="shop.example",
        line_items=(LineItem(name="one", creatives=(creative, creative)), LineItem(name="two")),
    )


@pytest.fixture
def body(asked):
    """The same campaign as a client would send it."""
    return {
        "name": asked.name,
        "currency": "USD",
        "time_zone": "Europe/Berlin",
        "goal": {"kind": "target_cpa", "target_cpa_micros": 5_000_000},
        "budget": {"daily_micros": 100_000_000},
        "advertiser_domain": "shop.example",
        "line_items": [
            {
                "name": "one",
                "creatives": [{"width": 300, "height": 250, "landing_url": "https://a.example/"}],
            },
            {"name": "two"},
        ],
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(is_done, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def deployment(tmp_path):
    made = Deployment(
        folder=str(tmp_path), bid_port=free_port(), notice_port=free_port(),
        control_port=free_port(), base_url="http://127.0.0.1:1", notice_key_hex="00" * 32,
        user_salt_hex="00" * 16,
    )  # fmt: skip
    ControlBlock.create(made.control_path)
    return made


class Plane:
    """A running control plane: real database, real server, one client per role."""

    def __init__(self, services, deployment, url):
        self.services = services
        self.deployment = deployment
        self.url = url
        self.first_key = deployment.api_key_path.read_text().strip()
        self.editor = self.client(self.first_key)
        self.viewer = self.client(self.new_key(1, Role.VIEWER))
        self.anyone = httpx.Client(base_url=url, trust_env=False)

    def client(self, key):
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def new_key(self, advertiser_id, role=Role.EDITOR):
        with self.services.store.writing() as session:
            return add_key(session, advertiser_id, role, NOW_MS)

    def new_advertiser(self, name):
        with self.services.store.writing() as session:
            return add_advertiser(session, name, NOW_MS)

    def close(self):
        for client in (self.editor, self.viewer, self.anyone):
            client.close()


@contextlib.contextmanager
def running(deployment):
    """Runs the control plane in a thread, as ``campaigns.server`` does in a process."""
    with open_services(deployment, lambda: NOW_MS) as services:
        listener = socket.socket()
        listener.bind((deployment.host, deployment.control_port))
        config = uvicorn.Config(build_app(services), log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        plane = Plane(services, deployment, f"http://127.0.0.1:{deployment.control_port}")
        try:
            yield plane
        finally:
            plane.close()
            server.should_exit = True
            thread.join()
            listener.close()


@pytest.fixture
def plane(deployment, caplog):
    caplog.set_level(logging.DEBUG)
    with running(deployment) as started:
        yield started


class LedgerServer:
    """A server on the notice port that answers ``GET /ledger`` with the view it is given."""

    def __init__(self, port):
        self.view = None
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path == "/ledger"
                content = msgspec.json.encode(outer.view)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def ledger(deployment):
    server = LedgerServer(deployment.notice_port)
    yield server
    server.close()
