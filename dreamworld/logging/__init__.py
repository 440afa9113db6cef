"""Metrics, episode statistics, writers, progress line, pictures, and the run directory. Loads no JAX.

Import from the modules: `from dreamworld.logging.rundir import RunDir`.
"""
