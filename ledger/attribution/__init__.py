"""Attribution: which touches earned a conversion, by seven models, and what people's journeys were.

    touches, conversions (``reading``) -> persons (``identity``) -> paths (``paths``)
        -> credits (``models``, ``kernels``) -> the table ``attributions`` (``table``)

It works on what the store says happened and never on the bid path. It says who was there before a
conversion, not what caused it: that takes an experiment. ``docs/attribution.md`` has the equations.
"""
