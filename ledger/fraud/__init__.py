"""Invalid traffic: events that no person caused, marked by rules and never deleted.

``terms`` has the rules, ``kernels`` what is counted in windows of time, ``evidence`` reads the
edge's access log, ``marking`` keeps the table ``invalid_traffic``. What this deliberately does not
do: touch a budget. A mark says that money was spent on invalid traffic (``invalid_spend_micros`` of
``ledger.measures``); whether it is given back is an adjustment that a person decides on.
"""
