"""Where a password comes from: made here, asked for, or standard input; never the command line."""

import getpass
import sys
from dataclasses import dataclass, field

from twinmail import password
from twinmail.errors import PermanentError

# Mail servers are tried from everywhere, day and night.
SHORTEST = 12


@dataclass(frozen=True)
class Secret:
    """A password, and whether its user still has to be told it."""

    text: str = field(repr=False)
    generated: bool


def obtain(prompt: bool, stdin: bool) -> Secret:
    """A generated password; with *prompt* ask for it twice, with *stdin* read one line.

    Raises:
        PermanentError: both are given, there is nobody to ask, or what came is too short.
    """
    if prompt and stdin:
        raise PermanentError("--prompt and --stdin: give one of them, or none for a generated password")
    if prompt:
        return Secret(_checked(_asked()), generated=False)
    if stdin:
        return Secret(_checked(sys.stdin.readline().rstrip("\r\n")), generated=False)
    return Secret(password.new_password(), generated=True)


def _asked() -> str:
    if not sys.stdin.isatty():
        raise PermanentError("--prompt: there is no terminal to ask at; use --stdin")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise PermanentError("the two passwords differ; nothing has changed")
    return first


def _checked(text: str) -> str:
    if len(text) < SHORTEST:
        raise PermanentError(
            f"password: expected at least {SHORTEST} characters, got {len(text)}; "
            "or leave the choice to ./inv, without --prompt and --stdin"
        )
    if not (text.isascii() and text.isprintable()):
        # IMAP's LOGIN has no way to say which octets an umlaut is (RFC 9051, section 6.2.3).
        raise PermanentError(
            "password: expected letters, digits and signs of ASCII; not every client sends others"
        )
    return text
