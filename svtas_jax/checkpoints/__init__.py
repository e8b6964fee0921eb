"""Runs on disk: storing checkpoints, packing small arrays, resuming."""
