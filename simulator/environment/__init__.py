"""Gymnasium faces of the period engine: one campaign, or many at once, one step per tick."""
