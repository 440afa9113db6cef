"""A run at work: what a training, an evaluation or a loaded agent is built from, and the words it says."""
