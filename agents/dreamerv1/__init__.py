"""Dreamer: a Gaussian RSSM whose actor learns by gradients through its dreams (`agent.py`); its options (`config.py`)."""
