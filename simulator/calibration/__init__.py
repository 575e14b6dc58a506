"""Calibration: the twin's numbers from event logs, and how far it is from the days held back.

``log`` is what every reader makes (``reading``, ``ledger_reading``); ``fit`` turns one into a
``Calibration`` (supply, prices, responses, delays, each with its interval); ``play`` runs that as
a market on logged bids, through the twin's own kernels, and ``forecast`` says what other bids would
have bought; ``scenario_fit`` writes it down as a scenario; ``fidelity`` holds it against held-back
days. It never looks at how a log was made.
"""
