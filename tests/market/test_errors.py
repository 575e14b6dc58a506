"""The error tree: who must act is said by the class, where by the pointer."""

from __future__ import annotations

import pytest

from market.errors import BadInput, Corrupt, Forbidden, LodestoneError, NotReady


@pytest.mark.parametrize("kind", [BadInput, Forbidden, NotReady, Corrupt])
def test_every_error_of_ours_is_one_and_says_its_message(kind):
    error = kind("segment 3: 5 bytes; must be 8")
    assert isinstance(error, LodestoneError)
    assert str(error) == "segment 3: 5 bytes; must be 8"


def test_a_caller_who_handles_bad_input_handles_what_is_forbidden():
    with pytest.raises(BadInput) as refused:
        raise Forbidden("campaign 7: is another advertiser's", "/campaign_id")
    assert refused.value.pointer == "/campaign_id"


@pytest.mark.parametrize("kind", [NotReady, Corrupt])
def test_what_is_not_the_caller_s_fault_is_no_bad_input(kind):
    assert not issubclass(kind, BadInput)


def test_input_that_is_bad_as_a_whole_points_nowhere():
    assert BadInput("body: is empty; must be JSON").pointer == ""
