"""What a model costs: arithmetic, bytes, time."""
