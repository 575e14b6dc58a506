"""Bursts, slow and obvious: every window that begins at an event, counted anew."""

from __future__ import annotations


def in_bursts(group, at_ms, window_ms, count_max):
    found = set()
    for start_group, start in zip(group, at_ms, strict=True):
        inside = [
            i
            for i, (of, at) in enumerate(zip(group, at_ms, strict=True))
            if of == start_group and start <= at < start + window_ms
        ]
        if len(inside) > count_max:
            found.update(inside)
    return [i in found for i in range(len(group))]
