"""The control plane: what advertisers want, kept, changed by rule, and published to the engine.

``python -m campaigns.server DEPLOYMENT`` serves the campaign API and the console. The room never
answers a bid and never writes what bidders read: it publishes intent (``market.intent``), and the
controller turns that into snapshots.
"""
