"""Dreamer: a Gaussian RSSM; its actor learns by gradients through dreams (`agent.py`); its options (`config.py`)."""
