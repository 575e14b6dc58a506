"""A small real bidder over HTTP: a fixed price, honest notices, and a few ways to misbehave.

It decides as ``markets.PriceAgent`` does, from the JSON alone, so that both can be compared.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np

from market.chance import opportunity_key
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment
from market.kernels import hash_pair

DEADLINE_S = 30.0
BILLED_QUERY = "p=${AUCTION_PRICE}&b=${AUCTION_BID_ID}&q=${AUCTION_MULTIPLIER}&t=${AUCTION_IMP_TS}"
SHOWN_QUERY = "p=$%7BAUCTION_PRICE%7D&amp;c=%24%7BAUCTION_CURRENCY%7D"
LOSS_QUERY = "l=${AUCTION_LOSS}&m=${AUCTION_MIN_TO_WIN}&x=${AUCTION_MBR}"


class HttpBidder:
    """Answers bid requests and notices on one port; keeps everything that it was told."""

    def __init__(self, price, ads, *, spoil=None, modulus=1):
        self.price, self.ads, self.modulus = price, ads, modulus
        # Changes a response (dict) or returns raw bytes: (status, response) -> (status, body)
        self.spoil = spoil
        self.requests, self.notices, self.videos = [], [], set()
        self.refusals = Counter()
        self.connections = 0
        self._serving = set()
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()
        if self._serving:
            await asyncio.wait(self._serving, timeout=DEADLINE_S)

    @property
    def base(self):
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader, writer):
        self.connections += 1
        self._serving.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                fields = dict(
                    line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line
                )
                body = await reader.readexactly(int(fields.get(b"content-length", 0)))
                status, location, answer = self._answer(method, target, body)
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n"
                    f"{location and f'Location: {location}{chr(13)}{chr(10)}'}\r\n".encode()
                    + answer
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the exchange closed a connection that it no longer needs
        finally:
            writer.close()

    def _answer(self, method, target, body):
        if method == "POST":
            assert target == "/bid/twin"
            request = msgspec.json.decode(body)
            self.requests.append(request)
            status, answer = self._bid(request)
            return status, "", answer
        parts = urlsplit(target)
        _, _, kind, token = parts.path.split("/")
        if self.refusals[kind] > 0:
            self.refusals[kind] -= 1
            return 503, "", b""
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.notices.append((kind, token, query))
        if kind == "click":
            return 302, f"https://shop.example/?a=b&lsclk={token}", b""
        return 200, "", b""

    def _bid(self, request):
        imp = request["imp"][0]
        hi, lo = (np.uint64(k) for k in opportunity_key("twin", request["id"], imp["id"]))
        shown = imp.get("banner") or imp["video"]
        form = "banner" if "banner" in imp else "video"
        sizes = {f"{size['w']}x{size['h']}" for size in shown.get("format", ())}
        fitting = [
            ad
            for ad in self.ads
            if ad.features["format"] == form and (not sizes or ad.features["size"] in sizes)
        ]
        if not fitting or int(lo) % self.modulus:
            return 204, b""
        ad = fitting[int(hi) % len(fitting)]
        bid_id = f"{int(hash_pair(hi, np.uint64(1))):016x}{int(hash_pair(lo, np.uint64(2))):016x}"
        if form == "video":
            self.videos.add(bid_id)
        at = f"{self.base}/n"
        impression = f"{at}/impression/{bid_id}?{SHOWN_QUERY}"
        width, height = map(int, ad.features["size"].split("x"))
        response = {
            "id": request["id"],
            "bidid": bid_id,
            "cur": "USD",
            "seatbid": [
                {
                    "seat": "s1",
                    "bid": [
                        {
                            "id": bid_id,
                            "impid": imp["id"],
                            "price": self.price / 1e6,
                            "crid": str(ad.creative_id),
                            "w": width,
                            "h": height,
                            "mtype": 1 if form == "banner" else 2,
                            "nurl": f"{at}/win/{bid_id}?p=${{AUCTION_PRICE}}",
                            "burl": f"{at}/billing/{bid_id}?{BILLED_QUERY}",
                            "lurl": f"{at}/loss/{bid_id}?{LOSS_QUERY}",
                            "adm": f'<a href="{at}/click/{bid_id}"><img src="{impression}"></a>',
                        }
                    ],
                }
            ],
        }
        if self.spoil is not None:
            return self.spoil(response)
        return 200, msgspec.json.encode(response)


def deployment_of(folder, bidder):
    """A deployment whose bidder and recorder are ``bidder``; creates the control block."""
    deployment = Deployment(
        folder=str(folder),
        bid_port=bidder.port,
        notice_port=bidder.port,
        control_port=bidder.port,
        base_url=bidder.base,
        notice_key_hex="00" * 32,
        user_salt_hex=b"0123456789abcdef".hex(),
        is_episode=True,
    )
    block = ControlBlock.create(deployment.control_path)
    for worker in range(deployment.worker_count):
        block.worker(worker)[WorkerWord.IS_READY] = 1
    return deployment


async def acknowledge(words, *, recorder=True, controller=True):
    """Plays recorder and controller: acknowledges every clock step, until it is cancelled."""
    while True:
        if recorder:
            words[Word.RECORDER_STEP] = words[Word.CLOCK_STEP]
        if controller and words[Word.RECORDER_STEP] >= words[Word.CLOCK_STEP]:
            words[Word.CONTROLLER_STEP] = words[Word.RECORDER_STEP]
        await asyncio.sleep(0)


async def until(condition):
    """Waits for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        # What is waited for lies in shared memory, which wakes nobody.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
