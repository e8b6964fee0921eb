"""The errors that mean: the user's input is wrong, not our code.

Commands print their message alone, without a traceback, and exit with 2 (see
`svtas_jax.runtime.cli.run`). A message names the file or field, the value, the rule
that it breaks, and a remedy.
"""


class InputError(ValueError):
    """A value that the user gave breaks a rule."""


class MissingInputError(InputError, FileNotFoundError):
    """A file or folder that the user named does not exist."""

    def __str__(self) -> str:
        return str(self.args[0])


class DamagedVideoError(InputError):
    """A video cannot be read to its end."""
