"""World models, one per file."""
