"""Converts logits to metrics, pictures and reports."""
