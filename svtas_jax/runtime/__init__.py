"""The surroundings of a computation: flags, processes, devices, files, logs."""
