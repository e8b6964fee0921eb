"""Reports and comparisons of runs as HTML pages of one file each."""
