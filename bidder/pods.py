"""Pods: a break of several ads, sold as slots (structured), as time (dynamic), or as both (hybrid).

An imp that sells time becomes several records, one for each ad that may fit; an imp that sells a
slot stays one. Records are decided in order, and what one of them bids narrows the later ones of
the same pod: no advertiser and no category twice (unless ``poddedupe`` says otherwise), and no
more time than is left.

Source: OpenRTB 2.6, 3.2.7 and 7.6 of the implementation guide; AdCOM 1.0, list "Pod
Deduplication": 1 advertiser domain, 2 category, 3 creative, 4 media file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from market.chance import code_of
from market.openrtb import Video
from market.openrtb_reading import integers, number_text
from market.opportunity import DURATION_COUNT_MAX, CodeList

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from market.openrtb import Imp, TimedMedia
    from market.opportunity import Opportunities
    from market.snapshot import CreativeText

ADS_MAX = 8
"""Ads that are bid for one dynamic pod, whatever more ``maxseq`` allows."""
_BY_ADVERTISER = frozenset((1, 3, 4))
"""A creative or file that must not come twice does not, if its advertiser does not."""
_BY_CATEGORY = frozenset((2,))


class PodPlace(NamedTuple):
    """Where a record stands in a pod.

    Attributes:
        pod: the pod's id, or of the imp that is a pod by itself.
        imp_index: of the imp.
        sequence: which ad of that imp, 0 for the first.
        played: index of the columns of what is played: 0 video, 1 audio.
        pod_ms: time for sale, 0 = a slot, or limited by ``maxseq`` alone.
        no_advertiser_twice: whether an advertiser may come once only.
        no_category_twice: whether an ad category may come once only.
    """

    pod: str
    imp_index: int
    sequence: int
    played: int
    pod_ms: int
    no_advertiser_twice: bool
    no_category_twice: bool


def is_dynamic(media: TimedMedia | None) -> bool:
    """Returns whether time is sold, to be filled with several ads, and not one slot."""
    return media is not None and ((media.poddur or 0) > 0 or (media.maxseq or 0) > 0)


def ads_of(imp: Imp) -> int:
    """Returns how many ads at most are bid for the imp: 1 unless it is a dynamic pod.

    Only as many as the shortest allowed ad fits into the time.
    """
    media = _pod_media(imp)
    if media is None or not is_dynamic(media):
        return 1
    most = min(media.maxseq or ADS_MAX, ADS_MAX)
    shortest = min(
        (seconds for seconds in integers(media.rqddurs) if seconds > 0),
        default=max(media.minduration or 0, 1),
    )
    if media.poddur and media.poddur > 0:
        most = min(most, max(media.poddur // shortest, 1))
    return max(most, 1)


def is_in_pod(imp: Imp) -> bool:
    """Returns whether the imp is a part of a pod, or a pod by itself."""
    return _pod_media(imp) is not None


def places_of(imps: Sequence[Imp], imp_indexes: Sequence[int]) -> tuple[PodPlace | None, ...]:
    """Returns the place of each record in its pod; () if no imp belongs to a pod.

    Records of one imp follow each other; those of one ad (a deal's and the open one) come from the
    edge with the same key but for the deal, ad after ad. ``imps`` and ``imp_indexes``: per record.
    """
    if not any(_pod_media(imp) is not None for imp in imps):
        return ()
    places: list[PodPlace | None] = []
    counts: dict[int, int] = {}
    for index in imp_indexes:
        counts[index] = counts.get(index, 0) + 1
    seen: dict[int, int] = {}
    for imp, index in zip(imps, imp_indexes, strict=True):
        nth = seen[index] = seen.get(index, -1) + 1
        places.append(_place(imp, index, nth * ads_of(imp) // counts[index]))
    return tuple(places)


def _place(imp: Imp, index: int, sequence: int) -> PodPlace | None:
    media = _pod_media(imp)
    if media is None:
        return None
    listed = frozenset(integers(media.poddedupe)) if isinstance(media, Video) else frozenset[int]()
    return PodPlace(
        pod=number_text(media.podid) or f"imp {imp.id}",
        imp_index=index,
        sequence=sequence,
        played=0 if isinstance(media, Video) else 1,
        pod_ms=max(media.poddur or 0, 0) * 1000,
        no_advertiser_twice=not listed or bool(listed & _BY_ADVERTISER),
        no_category_twice=not listed or bool(listed & _BY_CATEGORY),
    )


def _pod_media(imp: Imp) -> TimedMedia | None:
    """Returns the video or audio of the imp that belongs to a pod, None if neither does."""
    for media in (imp.video, imp.audio):
        if media is not None and (number_text(media.podid) is not None or is_dynamic(media)):
            return media
    return None


class PodWatch:
    """Narrows the records of a request that belong to pods, bid after bid."""

    def __init__(self, places: tuple[PodPlace | None, ...], opportunities: Opportunities) -> None:
        """Takes the place of each record (``places_of``) and the records themselves."""
        self._places = places
        self.opportunities = opportunities
        # By imp: which ad was the last to get a bid, and the time of each ad that got one.
        self._spent_ms: dict[int, dict[int, int]] = {}

    def is_full(self, n: int) -> bool:
        """Returns whether nothing more fits where record ``n`` stands.

        Either no time is left, or the ad before it got no bid: then this one gets none either.
        """
        place = self._places[n] if self._places else None
        if place is None or place.sequence == 0:
            return False
        spent = self._spent_ms.get(place.imp_index, {})
        if place.sequence - 1 not in spent:
            return True
        record = self.opportunities.records[n]
        first = place.played * DURATION_COUNT_MAX
        has_lengths = bool(record["durations_ms"][first])
        left = place.pod_ms - sum(spent.values())
        shortest = int(record["duration_ms_min"][place.played])
        return bool(place.pod_ms) and not has_lengths and left < max(shortest, 1)

    def take(self, n: int, shown: CreativeText, duration_ms: int) -> None:
        """Notes the bid of record ``n`` and narrows the later records of its pod."""
        place = self._places[n] if self._places else None
        if place is None:
            return
        spent = self._spent_ms.setdefault(place.imp_index, {})
        # Bids on several deals for one ad: the longest may win.
        spent[place.sequence] = max(spent.get(place.sequence, 0), duration_ms)
        later = [
            m
            for m, other in enumerate(self._places)
            if m > n and other is not None and other.pod == place.pod
            and (other.imp_index, other.sequence) != (place.imp_index, place.sequence)
        ]  # fmt: skip
        self._block(
            [m for m in later if self._of(m).no_advertiser_twice],
            CodeList.ADVERTISER_BLOCKED, code_of(shown.advertiser_domain),
        )  # fmt: skip
        self._block(
            [m for m in later if self._of(m).no_category_twice],
            CodeList.CATEGORY_BLOCKED, code_of(shown.category),
        )  # fmt: skip
        if place.pod_ms:
            left = place.pod_ms - sum(spent.values())
            for m in later:
                if self._of(m).imp_index == place.imp_index:
                    _shorten(self.opportunities.records[m], place.played, left)

    def _of(self, m: int) -> PodPlace:
        place = self._places[m]
        assert place is not None
        return place

    def _block(self, records: list[int], which: CodeList, code: int) -> None:
        """Adds a code to one list of these records; those that shared a slice share the new one."""
        codes = [self.opportunities.codes]
        end = self.opportunities.codes.shape[0]
        made: dict[tuple[int, int], int] = {}
        for m in records:
            record = self.opportunities.records[m]
            first, count = int(record["list_first"][which]), int(record["list_count"][which])
            if (first, count) not in made:
                made[first, count] = end
                codes += [codes[0][first : first + count], np.array([code], np.uint64)]
                end += count + 1
            record["list_first"][which] = made[first, count]
            record["list_count"][which] = count + 1
        if made:
            self.opportunities = self.opportunities._replace(codes=np.concatenate(codes))


def _shorten(record: npt.NDArray[np.void] | np.void, played: int, left_ms: int) -> None:
    """Leaves only lengths of at most ``left_ms`` in the columns of what is played."""
    first = played * DURATION_COUNT_MAX
    lengths = record["durations_ms"][first : first + DURATION_COUNT_MAX]
    if lengths[0]:
        kept = [length for length in lengths.tolist() if 0 < length <= left_ms]
        # An impossible length keeps the list from meaning "any".
        kept = kept or [2**32 - 1]
        lengths[:] = kept + [0] * (DURATION_COUNT_MAX - len(kept))
        return
    longest = int(record["duration_ms_max"][played])
    record["duration_ms_max"][played] = max(min(longest or left_ms, left_ms), 1)
