"""Ties a process to its parent: when the parent dies, whatever killed it, the process dies too.

Run as a program it asks the system for that and then becomes the program that it is given:

    python campaigns/lifeline.py PARENT_PID PROGRAM ARGUMENTS...

A signal handler cannot do this (a ``kill -9`` runs none), and code between fork and exec may not
(the parent has threads). SIGKILL, because a process that hangs must go as well; whatever a part of
the engine had in hand is in mapped files and the log, which are made for just that.

Source: prctl(2), PR_SET_PDEATHSIG: kept across exec, sent when the thread that forked ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tied(command: list[str]) -> list[str]:
    """Returns the command line that runs ``command`` as a process which ends with this one."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def become(parent_pid: int, command: list[str]) -> None:
    """Ties this process to its parent and runs ``command`` in its place; does not return.

    Raises:
        OSError: the system refuses, or has no such program.
        SystemExit: the parent died in between.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent_pid:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - our own command line


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
