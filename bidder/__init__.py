"""Answers a bid request: decode, match, score, price, respond. It never asks, never waits."""
