"""Judging a world model: metrics of what it dreams against what happened, on held-out segments (docs/assess.md)."""
