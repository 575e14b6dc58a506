"""A world for the period engine: users, products, creatives, scenes, and what people do.

It says what is on offer in each tick and what an exposure is worth (``simulator.period.seam``), and
draws what follows from the exposures that were sold: views, clicks, carts, orders, what people
would have bought anyway, and thereby what advertising truly added.

What it does not do: it holds no auctions and no money, and it knows no OpenRTB.
"""
