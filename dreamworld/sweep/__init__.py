"""Sweeps: tasks x seeds x settings as runs, launched on this machine, on Ray or on SLURM. Loads no JAX."""
