"""Requests with privacy signals, as changes to a body, and what each must come to."""

from __future__ import annotations

from bidder.privacy import Use
from tests.reference import privacy as reference

VENDOR = 99
CONSENT = reference.consent_string(reference.CONSENTING)
NO_GEO = reference.consent_string(reference.CONSENTING | {"special_features": set()})
NO_PROFILES = reference.consent_string(reference.CONSENTING | {"purposes": {1, 2, 7}})
OUTDATED = reference.consent_string(reference.CONSENTING | {"policy_version": 3})
CALIFORNIA = reference.us_section(8, reference.permitting_us(8), gpc=False)
OPTED_OUT = reference.us_section(8, reference.permitting_us(8) | {"SharingOptOut": 1})
NATIONAL_NO_GEO = "BVQqAAAAAgA"
ZEROED = "00000000-0000-0000-0000-000000000000"
USER = {"id": "u1"}


def gpp(**sections):
    """A GPP string of s<id>=text."""
    return reference.gpp_string({int(name[1:]): text for name, text in sections.items()})


PERMITTED = [
    {},
    {"regs": {}, "user": USER, "device": {}},
    {"device": {"dnt": 0, "lmt": 0, "ifa": "00000000-0000-0000-0000-000000000001"}},
    {"device": {"dnt": None, "lmt": "", "ifa": "0"}},
    {"regs": {"coppa": 0, "gdpr": 0, "us_privacy": "1YNN"}},
    {"regs": {"us_privacy": "1---"}},
    {"regs": {"us_privacy": "", "gpp": "", "gpp_sid": []}},
    {"regs": {"gdpr": 0}, "user": {**USER, "consent": "unreadable"}},
    {"regs": {"gdpr": 1}, "user": {**USER, "consent": CONSENT}},
    {"regs": {"ext": {"gdpr": 1}}, "user": {**USER, "ext": {"consent": CONSENT}}},
    {"user": {**USER, "consent": CONSENT}},
    {"regs": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [8]}},
    {"regs": {"ext": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": ["8"]}}},
    {"regs": {"gpp": gpp(s8=OPTED_OUT), "gpp_sid": [-1]}},
    {"regs": {"gpp": gpp(s2=CONSENT, s8=OPTED_OUT), "gpp_sid": [2]}},
    {"regs": {"gpp_sid": [2]}, "user": {**USER, "consent": CONSENT}},
    {"regs": {"gdpr": 1, "gpp": gpp(s2=CONSENT), "gpp_sid": [2]}},
    {"regs": {"gpp": gpp(s6="1YNN"), "gpp_sid": [6]}},
    {"regs": {"us_privacy": "1YNN", "gpp_sid": [6]}},
    {"regs": {"gpp": gpp(s6="1YNN", s8=CALIFORNIA), "gpp_sid": [6, 8]}},
]
"""Changes that leave every use permitted, given VENDOR."""

FORBIDDEN = [
    ("device.dnt", {"device": {"dnt": 1}}),
    ("device.dnt", {"device": {"dnt": "yes"}}),
    ("device.lmt", {"device": {"lmt": 1}}),
    ("device.lmt", {"device": {"lmt": "1"}}),
    ("device.ifa", {"device": {"ifa": ZEROED}, "user": USER}),
    ("regs.coppa", {"regs": {"coppa": 1}}),
    ("regs.coppa", {"regs": {"coppa": True}}),
    ("regs.gdpr", {"regs": {"gdpr": 1}}),
    ("regs.gdpr", {"regs": {"ext": {"gdpr": 1}}}),
    ("regs.gdpr", {"regs": {"gdpr": 0, "ext": {"gdpr": 1}}}),
    ("regs.gdpr", {"regs": {"gdpr": 2}}),
    ("regs.gdpr", {"regs": {"gdpr": "unsure"}}),
    ("user.consent", {"user": {**USER, "consent": "CPc"}}),
    ("user.consent", {"regs": {}, "user": {**USER, "ext": {"consent": "CPc"}}}),
    ("user.consent", {"regs": {"gdpr": 1}, "user": {**USER, "consent": OUTDATED}}),
    ("user.consent", {"regs": {"gdpr": 1}, "user": {**USER, "consent": CONSENT[:30]}}),
    ("user.consent", {"regs": {"gdpr": 1}, "user": {**USER, "consent": "C" * 9_000}}),
    ("user.consent",
     {"regs": {"gdpr": 1}, "user": {**USER, "consent": CONSENT, "ext": {"consent": "CPc"}}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "1YYN"}}),
    ("regs.us_privacy", {"regs": {"ext": {"us_privacy": "1NyN"}}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "1YNN", "ext": {"us_privacy": "1YYN"}}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "1NNN"}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "1"}}),
    ("regs.us_privacy", {"regs": {"us_privacy": 1}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "garbage"}}),
    ("regs.gpp_sid", {"regs": {"gpp_sid": [7]}}),
    ("regs.gpp_sid", {"regs": {"gpp_sid": [6]}}),
    ("regs.gpp_sid", {"regs": {"gpp_sid": [2]}}),
    ("regs.gpp_sid", {"regs": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [7]}}),
    ("regs.gpp_sid", {"regs": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [8, 9]}}),
    ("regs.gpp_sid", {"regs": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [0]}}),
    ("regs.gpp_sid", {"regs": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [8, -1]}}),
    ("regs.gpp_sid", {"regs": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [8, "usva"]}}),
    ("regs.gpp_sid", {"regs": {"gpp": gpp(s24="CAAA"), "gpp_sid": [24]}}),
    ("regs.gpp_sid", {"regs": {"gpp": gpp(s5="CAAA"), "gpp_sid": [5]}}),
    ("regs.gpp", {"regs": {"gpp": gpp(s8=CALIFORNIA)}}),
    ("regs.gpp", {"regs": {"gpp": gpp(s8=OPTED_OUT), "gpp_sid": [8]}}),
    ("regs.gpp", {"regs": {"gpp": gpp(s8="BVWS"), "gpp_sid": [8]}}),
    ("regs.gpp", {"regs": {"gpp": gpp(s6="1YYN"), "gpp_sid": [6]}}),
    ("regs.gpp", {"regs": {"gpp": gpp(s2=OUTDATED), "gpp_sid": [2]}}),
    ("regs.gpp", {"regs": {"ext": {"gpp_sid": [8], "gpp": "DBA"}}}),
    ("regs.gpp", {"regs": {"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [8], "ext": {"gpp": "DBA"}}}),
    ("regs.gpp", {"regs": {"gpp": gpp(s2=CONSENT, s8=OPTED_OUT), "gpp_sid": [2, 8]}}),
]  # fmt: skip
"""(field that forbids, changes): no use is left."""

PARTLY = [
    ("user.consent", {Use.PRECISE_GEO}, {"user": {**USER, "consent": NO_GEO}}),
    ("user.consent", {Use.SEGMENTS, Use.DEMOGRAPHICS, Use.EIDS},
     {"regs": {"gdpr": 1}, "user": {**USER, "consent": NO_PROFILES}}),
    ("regs.gpp", {Use.PRECISE_GEO}, {"regs": {"gpp": gpp(s7=NATIONAL_NO_GEO), "gpp_sid": [7]}}),
]  # fmt: skip
"""(field that forbids, uses it forbids, changes): the others are left."""
