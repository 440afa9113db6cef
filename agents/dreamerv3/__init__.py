"""DreamerV3: an RSSM and an actor-critic, trained by one optimiser (`agent.py`); its options (`config.py`)."""
