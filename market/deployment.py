"""The deployment: which processes run, where their files lie and on which ports they answer.

The supervisor writes it once as ``deployment.json`` into the run folder and hands every process
the path; nobody reads the environment.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import msgspec

from market.errors import Corrupt
from market.exchange import DEFAULT_EXCHANGES, ExchangeProfile
from market.landscape import Landscape
from market.price_encryption import PriceKeys


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One running engine.

    Attributes:
        folder: the run folder; everything durable lies below it.
        host: address that every port is bound to.
        worker_count: bid workers, one per core.
        bid_port, notice_port, control_port: of workers (shared), recorder, control plane.
        base_url: what notice URLs begin with, as exchanges see it.
        notice_key_hex: secret of the notice signatures, 32 bytes.
        user_salt_hex: secret that turns user ids into pseudonyms, 16 bytes.
        seed: of every keyed draw that the engine makes.
        exchanges: profiles, see ``market.exchange``.
        rates_micros: units of USD per unit of each currency, times 10^6.
        tick_ms: time between two policy ticks, on the run's clock.
        is_episode: an exchange drives the clock; nobody acts before its first step.
        no_bid_sample_rate: share of no-bids that are recorded, with weight 1 / share.
        tcf_vendor_id: our number in the IAB's global vendor list; None when not registered: then
            no consent string can cover us, and under GDPR nothing of a user is used.
        is_native: workers answer the usual requests natively (``bidder.native``); False: all on the
            default path, which gives the same answers.
        analytics_url: ``clickhouse://user:password@host:port/database`` of the server that keeps
            the events; "" = the embedded engine, in the run folder.
        kafka_servers: ``host:port`` of brokers with commas between, to which the event log is
            shipped; "" = it is not.
        kafka_topic: that the events go to; it must exist.
        budgets_url: connection string of the PostgreSQL server that owns budgets shared between
            machines (``ledger.allotment``); "" = budgets are this machine's alone.
        budgets_password_file: path of a file with the password of ``budgets_url``; "" = libpq finds
            it (``PGPASSWORD``, its password file), or needs none.
        node: name of this machine among those that share budgets.
        price_keys: by exchange name, the keys of those that encrypt the clearing price.
        supply_folder: crawled ads.txt and sellers.json files, crawlers, address ranges
            (``bidder.supply_files``); "" = none.
        landscapes: what it takes to win, by exchange and format; first-price bids are shaded by it.
    """

    folder: str
    host: str = "127.0.0.1"
    worker_count: int = 1
    bid_port: int
    notice_port: int
    control_port: int
    base_url: str
    notice_key_hex: str
    user_salt_hex: str
    seed: int = 1
    exchanges: tuple[ExchangeProfile, ...] = DEFAULT_EXCHANGES
    rates_micros: dict[str, int] = msgspec.field(
        default_factory=lambda: {"USD": 1_000_000, "EUR": 1_080_000, "GBP": 1_270_000}
    )
    tick_ms: int = 1_800_000
    is_episode: bool = False
    no_bid_sample_rate: float = 1 / 64
    tcf_vendor_id: int | None = None
    is_native: bool = True
    analytics_url: str = ""
    kafka_servers: str = ""
    kafka_topic: str = "lodestone-events"
    budgets_url: str = ""
    budgets_password_file: str = ""
    node: str = ""
    price_keys: dict[str, PriceKeys] = msgspec.field(default_factory=dict)
    supply_folder: str = ""
    landscapes: tuple[Landscape, ...] = ()

    @property
    def root(self) -> Path:
        """The run folder as a path."""
        return Path(self.folder)

    @property
    def control_path(self) -> Path:
        """The mapped control block (``market.control``)."""
        return self.root / "control.bin"

    @property
    def metrics_path(self) -> Path:
        """The workers' counters (``bidder.metrics``)."""
        return self.root / "rings" / "metrics.bin"

    @property
    def ledger_token(self) -> str:
        """What who asks the recorder for its totals must send as ``Authorization: Bearer``.

        The notice port is open to exchanges and browsers; budgets and spend are not theirs. Made
        from the notice key, so that a run has no second secret to keep.
        """
        key = bytes.fromhex(self.notice_key_hex)
        return hmac.new(key, b"lodestone ledger", hashlib.sha256).hexdigest()

    @property
    def snapshot_folder(self) -> Path:
        """Where the controller writes snapshots."""
        return self.root / "snapshots"

    @property
    def segment_folder(self) -> Path:
        """The event and lease log of the recorder."""
        return self.root / "segments"

    @property
    def ring_folder(self) -> Path:
        """Rings between workers and the recorder."""
        return self.root / "rings"

    @property
    def store_folder(self) -> Path:
        """The analytics store's own files."""
        return self.root / "store"

    @property
    def store_socket(self) -> Path:
        """Unix socket on which the store answers queries."""
        return self.root / "store.sock"

    @property
    def database_path(self) -> Path:
        """SQLite file of the control plane: the intent."""
        return self.root / "campaigns.sqlite"

    @property
    def intent_folder(self) -> Path:
        """Where the control plane publishes intent (``market.intent``)."""
        return self.root / "intent"

    @property
    def api_key_path(self) -> Path:
        """The first advertiser's API key, readable by the owner of the run only."""
        return self.root / "api_key"

    @property
    def asset_folder(self) -> Path:
        """Rendered creatives, by content hash."""
        return self.root / "assets"

    @property
    def log_folder(self) -> Path:
        """One log file per process."""
        return self.root / "logs"


def write_deployment(deployment: Deployment) -> Path:
    """Writes ``deployment.json`` into the run folder (readable by its owner only: it has keys)."""
    path = deployment.root / "deployment.json"
    path.touch(mode=0o600)
    path.chmod(0o600)  # touch leaves the mode of an older file as it is
    path.write_bytes(msgspec.json.format(msgspec.json.encode(deployment)))
    return path


def read_deployment(path: Path) -> Deployment:
    """Returns the deployment in ``path``.

    Raises:
        Corrupt: the file is missing or breaks its schema.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Deployment)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise Corrupt(f"deployment {path.name}: {error}; start `lodestone serve` again") from error
