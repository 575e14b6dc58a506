"""A real PostgreSQL server on a temporary folder, reached over a unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from tests.ledger.stores import wait_until

_HOMES = Path("/usr/lib/postgresql")


def tools() -> Path | None:
    """Where the newest server's programs are; None where there is none."""
    found = sorted(_HOMES.glob("*/bin"), key=lambda path: int(path.parent.name))
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class PostgresServer:
    """A child process; PostgreSQL refuses to run as root, so root runs it as ``postgres``."""

    def __init__(self, tools: Path) -> None:
        self._tools = tools
        # Not below pytest's folders, which only root may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="lodestone-pg-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", "--reuid=postgres", f"--regid={user.pw_gid}", "--clear-groups"]
        self._data = self.folder / "data"
        subprocess.run(
            [*self._as, tools / "initdb", "-D", self._data, "-U", "lodestone", "--auth=trust",
             "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, cwd=self.folder,
        )  # fmt: skip
        self._databases = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self._as, self._tools / "postgres", "-D", self._data, "-c", "listen_addresses=",
             "-c", f"unix_socket_directories={self.folder}"],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self._is_up, "the PostgreSQL server's start")

    def url(self, database: str = "postgres") -> str:
        return f"host={self.folder} user=lodestone dbname={database}"

    def new_database(self) -> str:
        """The connection string of an empty database of its own."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.url(name)

    def kill(self) -> None:
        """Kills the postmaster as a power cut would, but for the page cache."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        # Its children notice that it is gone; the next start waits for that.
        os.kill(pid, 9)
        self.process.wait(30)

    def stop(self) -> None:
        if self.process.poll() is None:
            pid = int((self._data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 2)
            self.process.wait(30)
        shutil.rmtree(self.folder)

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            # After a kill the children of the old server may hold its memory for a moment.
            self.process = subprocess.Popen(
                self.process.args, cwd=self.folder, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            return False
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True


def postgres_or_skip() -> PostgresServer:
    """Returns a running server; where none is installed, skips, or fails if one is required."""
    found = tools()
    if found is None:
        lacking = "initdb is not installed; Debian's package postgresql has it"
        if "postgres" in os.environ.get("LODESTONE_REQUIRE", ""):
            pytest.fail(lacking)
        pytest.skip(lacking)
    return PostgresServer(found)
