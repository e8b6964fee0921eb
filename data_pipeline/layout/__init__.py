"""Makes a data set in the field's common layout from videos and annotations."""
