"""What surrounds a computation: flags, processes, devices, files, progress, logs."""
