"""The period engine: many advertisers bid through a period of auctions with exact budgets.

A day of half a million opportunities and 48 agents takes a fraction of a second, so that a policy
can be judged over thousands of days. What it does not do: it speaks no OpenRTB and knows neither
deals nor targeting (that is ``simulator.exchange``), and it does not say who the users are (a world
does, see ``simulator.period.seam``).
"""
