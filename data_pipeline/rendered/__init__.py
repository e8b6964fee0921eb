"""Rendered videos that follow the labels and splits of a real data set."""
