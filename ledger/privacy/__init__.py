"""What is known of persons, kept so that little can leak and all can be erased.

``secret`` takes keys from the environment or from files, ``salts`` rotates what pseudonyms are made
with, ``users`` is the encrypted table of who consented to be one person on several devices,
``audit`` the log of who looked at or changed what, which cannot be edited unseen. Erasing a
person's events is ``ledger.erasure``. What may be used of a user at all is decided before anything
is recorded, in ``bidder.privacy``.
"""
