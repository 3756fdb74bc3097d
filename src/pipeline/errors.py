"""What can go wrong, by whose hand. The command line turns each into one message and an exit code."""

# 75 is a run that was preempted and can be resumed (EX_TEMPFAIL), 130 what shells give a program ended by Ctrl-C.
DONE, FAILED, USER_ERROR, PREEMPTED, INTERRUPTED = 0, 1, 2, 75, 130


class UserError(Exception):
    """A mistake the user can mend: the message says what was found, what was expected and what to type.

    The command line prints the message without a traceback and exits with 2.
    """


class ConfigError(UserError):
    """The configuration names something that does not exist, or a value that cannot work."""


class DataError(UserError):
    """The data is missing, damaged, or not what its source promises."""


class RunError(UserError):
    """A run directory that does not exist, or cannot do what is asked of it."""


class TrackingError(Exception):
    """The tracking store refused or did not answer. Never reaches the training process."""


class TrainingFailed(Exception):
    """Training itself broke down (a loss that is no number, a full disk, memory exhausted).

    The message is complete: it says what happened, at which step and what was saved. Exit code 1.
    """


def missing_package_error(what: str, package: str) -> DataError:
    """Return the error to raise for data that needs an optional package."""
    return DataError(
        f"{what} needs the package {package}, which is not installed. Type python -m pip install {package}."
    )
