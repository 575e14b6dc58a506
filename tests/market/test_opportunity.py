"""The opportunity's arrays: what other files count on about their numbers and places."""

from __future__ import annotations

import numpy as np

from market.opportunity import (
    CODE_LIST_COUNT,
    DEAL_DTYPE,
    DIMENSION_COUNT,
    FORMAT_COUNT,
    OPPORTUNITY_DTYPE,
    CodeList,
    Dimension,
    Format,
    no_opportunities,
)


def test_bit_k_of_a_format_is_openrtb_s_mtype_k_plus_one():
    """OpenRTB 2.6, 4.2.3: 1 banner, 2 video, 3 audio, 4 native."""
    mtypes = {"BANNER": 1, "VIDEO": 2, "AUDIO": 3, "NATIVE": 4}
    assert {format_.name: int(format_).bit_length() for format_ in Format} == mtypes
    assert all(int(format_).bit_count() == 1 for format_ in Format)
    assert len(Format) == FORMAT_COUNT


def test_an_opportunity_has_a_place_for_every_dimension_and_list():
    assert sorted(Dimension) == list(range(DIMENSION_COUNT))
    assert sorted(CodeList) == list(range(CODE_LIST_COUNT))
    assert OPPORTUNITY_DTYPE["dimensions"].shape == (DIMENSION_COUNT,)
    assert OPPORTUNITY_DTYPE["list_first"].shape == (CODE_LIST_COUNT,)
    assert OPPORTUNITY_DTYPE["list_count"].shape == (CODE_LIST_COUNT,)


def test_records_are_aligned_so_that_a_kernel_reads_whole_words():
    for dtype in (OPPORTUNITY_DTYPE, DEAL_DTYPE):
        assert dtype.isalignedstruct
        for name in dtype.names:
            field, offset = dtype.fields[name][:2]
            assert offset % field.base.itemsize == 0, name


def test_an_empty_block_has_room_and_says_nothing():
    block = no_opportunities(3, 5, 2)
    assert [len(array) for array in block] == [3, 5, 2]
    assert block.records.dtype == OPPORTUNITY_DTYPE
    assert block.codes.dtype == np.uint64
    assert block.deals.dtype == DEAL_DTYPE
    assert not any(array.tobytes().strip(b"\0") for array in block)
