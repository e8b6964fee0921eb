"""Runs on disk: what is written, how small arrays are packed, how a run goes on."""
