"""DreamerV2: a categorical RSSM and a target network; its actor learns in dreams (`agent.py`); options (`config.py`)."""
