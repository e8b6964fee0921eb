"""Reads the formats that annotation programs and public data sets write."""
