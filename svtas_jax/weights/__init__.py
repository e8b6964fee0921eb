"""Weights of other programs: file formats, names, rules, conversion."""
