"""Data sets as ArrayRecord files: writing and reading them."""
