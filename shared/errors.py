"""Errors that end a command with one line and a code of its own."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the user: what is wrong and how to mend it, in one line; exit code 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was heard: the batch system wants the machine back; exit code 143."""
