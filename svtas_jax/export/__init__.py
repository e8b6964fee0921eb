"""Exports the step of a stream as a program that runs without this package."""
