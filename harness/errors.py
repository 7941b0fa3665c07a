"""Errors that a user can act on; the command prints them in one line and exits with code 2."""

import re

MOST_CHARACTERS = 4000
"""Characters of an error's message that a command prints."""
HIDDEN = "***"
_PASSWORDS = (
    (re.compile(r"(://[^:/@\s]*):\S*@"), rf"\1:{HIDDEN}@"),
    (
        re.compile(r"((?:password|passwd|pwd|secret|token)=)[^&\s'\"]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
)
"""A URL's password, before its host and among its options, and what stands in its place."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return without_passwords(lines[0]) if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """An error's message in one line, without passwords. Of a long one the middle is left out."""
    text = without_passwords(" ".join(str(error).split()))
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}... ({len(text)} characters) ...{text[-half:]}"


def without_passwords(text: str) -> str:
    """A text with stars in place of the passwords of its URLs."""
    for pattern, replacement in _PASSWORDS:
        text = pattern.sub(replacement, text)
    return text


class UserError(Exception):
    """Something the user gave (a flag, a file, a name, a value) cannot be used."""


class ConfigError(UserError):
    """A configuration with one or more unknown, mistyped or out-of-range values."""


class DataError(UserError):
    """A data file or data set that does not have the expected form."""


class MethodError(UserError):
    """A method that is unknown or cannot be used with this teacher and student."""


class TeacherError(UserError):
    """A teacher that cannot be loaded, or is no better than a constant prediction."""


class NothingLeftError(UserError):
    """Every task was refused, each for its own reason."""


class DeviceError(UserError):
    """A device that failed and can do nothing more for this process."""


class StorageError(UserError):
    """A ledger or a folder that cannot be opened, read or written."""


class DamagedManifestError(StorageError):
    """A stored manifest that has changed, is no JSON, or lacks something."""


class OtherVersionError(StorageError):
    """A sound manifest of a version of the harness whose manifests this one cannot read."""
