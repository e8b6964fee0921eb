"""Turns video files and annotations into fixed-size streaming windows."""
