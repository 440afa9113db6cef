"""A page to play in: the real environment and what an agent dreams of it, side by side under the same actions."""
