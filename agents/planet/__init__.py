"""PlaNet: a Gaussian RSSM in which every action is planned (`agent.py`); its options (`config.py`)."""
