"""Measures a model's cost: arithmetic, bytes, time."""
