"""The demo data: labelled videos of rendered kitchen scenes."""
