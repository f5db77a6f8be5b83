"""Errors that a user can mend."""

from __future__ import annotations

__all__ = ["InputError", "StoreMismatchError"]


class InputError(ValueError):
    """Bad input: the message says what was wrong, where, and what to do about it.

    The command line prints the message as one line on standard error and exits with code 2.
    """


class StoreMismatchError(InputError):
    """A campaign store or a checkpoint was written by another study or another version."""
