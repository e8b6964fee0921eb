"""The labelling page's side of the server: a data folder, its labels and pictures."""
