"""DreamerV2: a categorical RSSM, and an actor that learns in its dreams (`agent.py`); its options (`config.py`)."""
