"""Studies of worlds that no single number tells: temperature, and what helps against drift."""
