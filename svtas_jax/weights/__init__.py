"""Reads and converts the weights of other programs."""
