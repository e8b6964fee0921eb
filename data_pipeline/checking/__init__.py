"""Examines a data set whole before somebody trains on it: `data_pipeline.check`."""
