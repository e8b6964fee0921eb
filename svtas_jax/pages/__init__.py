"""HTML pages of one file each: their frame, tables, and the colours of classes."""
