"""A simulated machine: a disk in memory that can lose its power at any call, a network, a clock.

All chance comes from one seed, so a run that failed is run again by its seed and its call.
"""

from __future__ import annotations

import errno

from market.errors import NotReady


class PowerCut(Exception):
    """The machine is off: whoever was running is gone."""


class SimulatedDisk:
    """A ``Disk`` in memory. ``cuts_at``: the power fails at that call, which may half happen."""

    def __init__(self, chance):
        self.chance = chance
        self.files = {}  # path -> [content, synced content, name is synced]
        self.removed = {}  # path -> synced content of names whose removal is not synced
        self.replaced = {}  # the same of names that a rename gave to another file
        self.open_files = {}
        self.next_descriptor = 1
        self.locks = set()
        self.calls = 0
        self.cuts_at = None
        self.full_until = 0

    # What a crash leaves.

    def crash(self):
        """Power off and on: what was not synced is there or not, or partly there."""
        self.open_files.clear()
        self.locks.clear()
        self.cuts_at = None
        self.full_until = 0
        for path, (content, synced, is_named) in list(self.files.items()):
            if not is_named and self.chance.random() < 0.5:
                del self.files[path]
                if path in self.replaced:  # a rename is one step: the old file or the new one
                    self.files[path] = [self.replaced[path], self.replaced[path], True]
                continue
            kept = synced
            if content[: len(synced)] == synced:
                added = content[len(synced) :]
                kept = synced + added[: self.chance.randint(0, len(added))]
                if self.chance.random() < 0.2:
                    kept += bytes(self.chance.randint(0, len(content) - len(kept)))
            elif self.chance.random() < 0.5:
                kept = content
            self.files[path] = [kept, kept, True]
        for path, content in self.removed.items():
            if path not in self.files and self.chance.random() < 0.5:
                self.files[path] = [content, content, True]
        self.removed.clear()
        self.replaced.clear()

    def _call(self):
        self.calls += 1
        if self.calls == self.cuts_at:
            raise PowerCut

    # The protocol.

    def list_names(self, folder):
        return [path.name for path in self.files if path.parent == folder]

    def make_folder(self, folder):
        self._call()

    def lock(self, folder):
        if folder in self.locks:
            raise BlockingIOError
        self.locks.add(folder)
        return self._open(folder)

    def exists(self, path):
        return path in self.files

    def _open(self, path):
        self.next_descriptor += 1
        self.open_files[self.next_descriptor] = path
        return self.next_descriptor

    def open_read(self, path):
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return self._open(path)

    def open_append(self, path, *, is_new):
        self._call()
        if is_new:
            known = self.files.get(path)
            self.files[path] = [b"", known[1] if known else b"", known[2] if known else False]
        elif path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return self._open(path)

    def close(self, descriptor):
        self.locks.discard(self.open_files.pop(descriptor, None))

    def size(self, descriptor):
        return len(self.files[self.open_files[descriptor]][0])

    def read(self, descriptor, count, offset):
        return self.files[self.open_files[descriptor]][0][offset : offset + count]

    def write(self, descriptor, data):
        file = self.files[self.open_files[descriptor]]
        count = self.chance.randint(1, len(data))
        self.calls += 1
        if self.calls == self.cuts_at:
            file[0] += bytes(data[: self.chance.randint(0, count)])
            raise PowerCut
        if self.calls < self.full_until:
            raise OSError(errno.ENOSPC, "No space left on device")
        file[0] += bytes(data[:count])
        return count

    def truncate(self, descriptor, size):
        self._call()
        file = self.files[self.open_files[descriptor]]
        file[0] = file[0][:size]

    def rename(self, old, new):
        self._call()
        content, synced, _ = self.files.pop(old)
        if new in self.files and self.files[new][2]:
            self.replaced[new] = self.files[new][1]
        self.files[new] = [content, synced, False]

    def link(self, old, new):
        self._call()
        self.files[new] = [*self.files[old][:2], False]

    def remove(self, path):
        self._call()
        self.removed[path] = self.files.pop(path)[1]

    def fdatasync(self, descriptor):
        self._call()
        file = self.files[self.open_files[descriptor]]
        file[1] = file[0]

    def fsync_folder(self, folder):
        self._call()
        for path, file in self.files.items():
            if path.parent == folder:
                file[2] = True
        for gone in (self.removed, self.replaced):
            for path in [path for path in gone if path.parent == folder]:
                del gone[path]


class SimulatedBroker:
    """A topic, and a sender to it: acknowledgements get lost, batches arrive partly or twice."""

    def __init__(self, chance):
        self.chance = chance
        self.messages = []
        self.refused = 0

    async def send(self, messages):
        draw = self.chance.random()
        if draw < 0.25:
            self.messages += messages[: self.chance.randint(0, len(messages))]
            self.refused += 1
            raise NotReady("the broker is away")
        if draw < 0.3:
            self.messages += messages
        self.messages += messages
