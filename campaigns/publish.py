"""Publishes intent: after every change of the store, what the controller reads is written anew.

The store is the truth and the files follow it (``market.intent``): a crash between commit and
publication is healed at the next start, a disk that refused by the next call.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from campaigns.store import intent_of
from market.errors import NotReady
from market.intent import Intent, write_intent

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns.store import Store


class Publisher:
    """The one writer of the intent folder.

    Attributes:
        version: of the intent that was published last; 0 before the first.
        is_behind: the last attempt failed; ``publish`` should be called again.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        """Takes the store to read and the folder to write; publishes nothing yet."""
        self._store = store
        self._folder = folder
        self._lock = threading.Lock()
        self.version = 0
        self.is_behind = False

    def publish(self) -> int:
        """Publishes the store's intent unless it is out already; returns its version.

        The first call always writes: the files may be older than the store, or newer than a store
        that was restored from a backup.

        Raises:
            NotReady: the files cannot be written.
        """
        # Two changes may commit in one order and come here in the other: under the lock each
        # publishes what the store holds now, which is at least its own change.
        with self._lock:
            with self._store.reading() as session:
                version, campaigns = intent_of(session)
            if version != self.version:
                try:
                    write_intent(self._folder, Intent(version, campaigns))
                except OSError as error:
                    self.is_behind = True
                    raise NotReady(
                        f"intent {version}: it is stored but cannot be published ({error}); "
                        "free the disk and retry"
                    ) from error
                self.version = version
            self.is_behind = False
            return version
