"""The errors whose message is for the user: printed as they are, without a traceback."""


class UserError(Exception):
    """Something that the user can mend; the message names the option, the value and what is allowed."""

    exit_code = 1


class ConfigError(UserError):
    """A bad option, value or choice, found before anything was written."""

    exit_code = 2


class FolderInUse(UserError):
    """Another process holds the run folder."""


class DamagedRun(UserError):
    """A file of a run folder can't be read."""

    exit_code = 2
