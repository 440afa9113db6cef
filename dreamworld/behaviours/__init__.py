"""Behaviours, one per file: what acts, and learns to, inside a world model."""
