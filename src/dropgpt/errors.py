"""The one error that is the user's to mend."""


class UserError(Exception):
    """Says in one line what was wrong, where, and what to do; shown without a traceback."""
