"""What if a campaign were bid otherwise? Settings compared over many periods, on the same coins.

Every setting plays the same periods: the same opportunities, values, rivals and draws, so that what
differs is what the setting does (common random numbers). What it deliberately does not do: train a
policy, or say anything of a market that no scenario describes.
"""
