"""The training loop and its parts: losses, optimizer, step, log, validation."""
