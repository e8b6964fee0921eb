"""Streaming temporal action segmentation of video in JAX: SETE, METE, Transeger."""

__version__ = "0.2.0"
