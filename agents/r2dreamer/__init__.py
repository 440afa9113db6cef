"""R2-Dreamer: DreamerV3 without a decoder (`agent.py`); its options (`config.py`)."""
