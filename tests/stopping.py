"""Stands for SIGTERM in a training, at a moment that a test chooses."""

from svtas_jax.runtime import interruption


class StopAt:
    """Asks to stop at the `number`-th time that the run looks; -1: never."""

    def __init__(self, number):
        self.left = number

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    @property
    def requested(self):
        self.left -= self.left > 0
        return self.left == 0

    def check(self):
        if self.requested:
            raise interruption.Interrupted
