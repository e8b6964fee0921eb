"""Errors for wrong user input, as opposed to bugs.

Commands print only their message, without a traceback, and exit with code 2 (see
`svtas_jax.runtime.cli.run`). A message names the file or field, the value, the rule
that it breaks, and a fix.
"""


class InputError(ValueError):
    """The user's input breaks a rule."""


class MissingInputError(InputError, FileNotFoundError):
    """A file or folder that the user named does not exist."""

    def __str__(self) -> str:
        return str(self.args[0])


class SourceError(InputError):
    """A live source broke off. Commands exit with code 3."""


class DamagedVideoError(InputError):
    """A video cannot be read to its end."""
