"""The one exception whose message is written for the person at the terminal."""


class UserError(Exception):
    """What is wrong, where, and what to do about it: shown as it is, without a traceback, with exit code 2."""


class UnknownCharactersError(UserError):
    """A text has characters outside the vocabulary: who asked may have them replaced or dropped."""


class NewerVersionError(UserError):
    """A file was written by a newer version of the program: it is whole, and not to be taken for damaged."""


class UnreadableError(UserError):
    """A file cannot be read just now, for want of memory or by a fault of the disk: it may well be whole."""
