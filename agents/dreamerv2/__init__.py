"""DreamerV2: a categorical RSSM; its actor learns by REINFORCE or through dreams (`agent.py`); its options (`config.py`)."""
