"""The digital twin of the market, as an exchange: users, scenes, competitors, auctions, responses.

What it does not do: it holds no bidder and no bid policy. Any ``market.protocols.BidAgent`` can be
put into it in process (``simulator.episode``), any OpenRTB bidder over HTTP (``simulator.live``).
"""
