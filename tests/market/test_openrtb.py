"""The OpenRTB Structs: field names against the specification, and how an answer is written."""

from __future__ import annotations

import msgspec
import pytest

from market import openrtb
from market.openrtb import NO_EXT, Bid, BidResponse, SeatBid, encode_response

# The attributes that OpenRTB 2.6 lists per object (2.6.md, sections 3.2.1 to 3.2.35 and 4.2).
POD = "podid podseq slotinpod poddur maxseq mincpmpersec durfloors rqddurs"
STREAM = (
    "mimes minduration maxduration startdelay protocols sequence battr maxextended minbitrate"
    " maxbitrate delivery companionad api companiontype ext"
)
INVENTORY = "id name domain keywords publisher content ext"
CHANNEL = f"{INVENTORY} cattax cat sectioncat pagecat privacypolicy kwarray inventorypartnerdomain"
SPECIFIED = {
    "BidRequest": (
        "id imp site app dooh device user test at tmax wseat bseat allimps cur wlang wlangb acat"
        " bcat cattax badv bapp source regs ext"
    ),
    "Source": "fd tid pchain schain ext",
    "Regs": "coppa gdpr us_privacy gpp gpp_sid ext",
    "Imp": (
        "id metric banner video audio native pmp displaymanager displaymanagerver instl tagid"
        " bidfloor bidfloorcur clickbrowser secure iframebuster rwdd ssai exp qty dt refresh ext"
    ),
    "Metric": "type value vendor ext",
    "Banner": "format w h btype battr pos mimes topframe expdir api id vcm ext",
    "Video": (
        f"{STREAM} {POD} w h placement plcmt linearity skip skipmin skipafter boxingallowed"
        " playbackmethod playbackend pos poddedupe"
    ),
    "Audio": f"{STREAM} {POD} feed stitched nvol",
    "Native": "request ver api battr ext",
    "Format": "w h wratio hratio wmin ext",
    "Pmp": "private_auction deals ext",
    "Deal": "id bidfloor bidfloorcur at wseat wadomain guar mincpmpersec durfloors ext",
    "Site": f"{CHANNEL} page ref search mobile",
    "App": f"{CHANNEL} bundle storeurl ver paid",
    "Publisher": "id name cattax cat domain ext",
    "Content": (
        "id episode title series season artist genre gtax genres album isrc producer url cattax cat"
        " prodq context contentrating userrating qagmediarating keywords kwarray livestream"
        " sourcerelationship len language langb embeddable data network channel realtime"
        " firstbroadcast ext"
    ),
    "Producer": "id name cattax cat domain ext",
    "Device": (
        "geo dnt lmt ua sua ip ipv6 devicetype make model os osv hwv h w ppi pxratio js geofetch"
        " flashver language langb carrier mccmnc connectiontype ifa didsha1 didmd5 dpidsha1 dpidmd5"
        " macsha1 macmd5 ext"
    ),
    "Geo": (
        "lat lon type accuracy lastfix ipservice country region regionfips104 metro city zip"
        " utcoffset ext"
    ),
    "User": "id buyeruid yob gender keywords kwarray customdata geo data consent eids ext",
    "Data": "id name cids segment ext",
    "Segment": "id name value ext",
    "Broadcaster": "id name domain ext",
    "SupplyChain": "complete nodes ver ext",
    "SupplyChainNode": "asi sid rid name domain hp ext",
    "Eid": "inserter source matcher mm uids ext",
    "Uid": "id atype ext",
    "UserAgent": "browsers platform mobile architecture bitness model source ext",
    "BrandVersion": "brand version ext",
    "Qty": "multiplier sourcetype vendor ext",
    "Dooh": f"{INVENTORY} venuetype venuetypetax",
    "Refresh": "refsettings count ext",
    "RefSettings": "reftype minint ext",
    "DurFloors": "mindur maxdur bidfloor ext",
    "BidResponse": "id seatbid bidid cur customdata nbr ext",
    "SeatBid": "bid seat group ext",
    "Bid": (
        "id impid price nurl burl lurl adm adid adomain bundle iurl cid crid tactic cattax cat attr"
        " apis api protocol qagmediarating language langb dealid w h wratio hratio exp dur mtype"
        " slotinpod ext"
    ),
}
REQUIRED = {
    "BidRequest": {"id", "imp"},
    "Imp": {"id"},
    "Deal": {"id"},
    "BidResponse": {"id"},
    "SeatBid": {"bid"},
    "Bid": {"id", "impid", "price"},
}
STRUCTS = {
    name: struct
    for name in openrtb.__all__
    if isinstance(struct := getattr(openrtb, name), type) and issubclass(struct, msgspec.Struct)
}


@pytest.mark.parametrize("name", SPECIFIED)
def test_an_object_has_every_attribute_of_the_specification(name: str) -> None:
    assert set(SPECIFIED[name].split()) <= set(STRUCTS[name].__struct_fields__)


@pytest.mark.parametrize("name", STRUCTS)
def test_an_object_is_frozen_untracked_and_needs_only_what_names_it(name: str) -> None:
    struct = STRUCTS[name]
    assert struct.__struct_config__.frozen
    assert not struct.__struct_config__.gc
    fields = msgspec.structs.fields(struct)
    assert {field.name for field in fields if field.required} == REQUIRED.get(name, set())
    absent = {id(field.default) for field in fields if not field.required}
    assert absent <= {id(None), id(NO_EXT)}


def test_a_request_that_is_encoded_decodes_to_itself() -> None:
    request = openrtb.BidRequest(
        id="r",
        imp=[openrtb.Imp(id="1", banner=openrtb.Banner(w=300, h=250), ext=msgspec.Raw(b'{"a":1}'))],
        at=1,
    )
    body = msgspec.json.encode(request)
    assert body == b'{"id":"r","imp":[{"id":"1","banner":{"w":300,"h":250},"ext":{"a":1}}],"at":1}'
    assert msgspec.json.decode(body, type=openrtb.BidRequest) == request


def test_an_answer_holds_what_was_set_and_nothing_else() -> None:
    bid = Bid(
        id="b",
        impid="1",
        price=1.25,
        adm="<a>é</a>",
        adomain=("example.com",),
        attr=(),
        mtype=1,
        dealid="d-1",
        w=300,
        h=250,
    )
    response = BidResponse(id="r", seatbid=(SeatBid(bid=(bid,), seat="s", group=0),), cur="EUR")
    assert (
        encode_response(response)
        == (
            '{"id":"r","seatbid":[{"bid":[{"id":"b","impid":"1","price":1.25,"adm":"<a>é</a>",'
            '"adomain":["example.com"],"attr":[],"dealid":"d-1","w":300,"h":250,"mtype":1}],'
            '"seat":"s","group":0}],"cur":"EUR"}'
        ).encode()
    )


def test_a_no_bid_keeps_its_empty_seatbid_and_reason_zero() -> None:
    assert encode_response(BidResponse(id="r", seatbid=(), nbr=0)) == (
        b'{"id":"r","seatbid":[],"nbr":0}'
    )


def test_an_answer_decodes_to_itself() -> None:
    bid = Bid(id="b", impid="1", price=0.5, cat=("IAB1",), apis=(3, 5), slotinpod=-1, exp=30)
    response = BidResponse(id="r", seatbid=(SeatBid(bid=(bid, bid)),), bidid="x", customdata="c")
    assert msgspec.json.decode(encode_response(response), type=BidResponse) == response
