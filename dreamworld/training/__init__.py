"""Training: the update step, the loop around it, checkpoints, stops and the numerical guard."""
