"""Live streams: an answer for every step, of any number of sources at a time."""
