"""Honest statistics over run directories: scores, aggregates with intervals, curves, a report. No JAX."""
