"""From scores to metrics, pictures and reports."""
