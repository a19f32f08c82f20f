"""The one exception for mistakes that a user can mend."""


class UserError(ValueError):
    """A mistake of the user's: the message says in one line what is wrong and how to mend it.

    The command line prints it without a traceback and exits with code 2.
    """
