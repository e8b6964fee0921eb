"""Writes and reads data sets as ArrayRecord files."""
