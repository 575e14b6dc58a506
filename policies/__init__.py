"""Sets bids each tick: the ladder of bid policies, the control loop and its process, rehearsals.

What it deliberately does not do: decide a bid. A policy sets the numbers of the bid formula; the
decision kernels of ``bidder`` do the rest.
"""
