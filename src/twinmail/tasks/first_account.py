"""The first account of all: asked for at a terminal, while twinmail.toml has no mailbox."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twinmail.errors import PermanentError, TwinmailError

if TYPE_CHECKING:
    from twinmail.local.accounts import Login


def ensure(config_file: Path) -> "Login | None":
    """Ask for the first mailbox and add it to *config_file*, if that has none yet; its login is returned.

    Raises:
        PermanentError: there is nobody to ask.
        ConfigError: the file is wrong otherwise.
    """
    from twinmail import config_text
    from twinmail.tasks.place import editing

    with editing(config_file) as file:
        if config_text.mailboxes(file.text):
            return None
        domain = config_text.first_domain(file.text)
        if not sys.stdin.isatty():
            raise PermanentError(
                f"{file.path.name} has no mailbox yet; run ./inv up at a terminal, which asks for the first, "
                f'or write: [mailboxes.NAME] addresses = ["NAME@{domain}"]'
            )
        print(f"{file.path.name} has no mailbox yet. Whose is the first?", file=sys.stderr)
        while True:
            try:
                text, login = _ask(file.text, domain)
                break
            except TwinmailError as error:
                print(f"{error}\nOnce more, or Ctrl-C:", file=sys.stderr)
        file.write(text)
    return login


def _ask(text: str, domain: str) -> "tuple[str, Login]":
    """The configuration with what was answered, and the login."""
    from twinmail import config_text
    from twinmail.accounts import checked_user
    from twinmail.local.accounts import Login
    from twinmail.tasks import secret

    name = checked_user(_answer("Login name", "").lower())
    address = _answer("Address", f"{name}@{domain}")
    full_name = _answer("Full name", "-")
    changed = config_text.with_mailbox(text, name, [address], full_name.strip("-"))
    own = _answer("A password of your own (no: one is made)", "no").lower() in ("y", "yes")
    chosen = secret.obtain(prompt=own, stdin=False)
    return changed, Login.of(name, chosen.text)


def _answer(question: str, default: str) -> str:
    shown = f" [{default}]" if default else ""
    # Not input's own prompt: that goes to standard output, which is for results.
    print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
    try:
        return input().strip() or default
    except EOFError as error:
        raise KeyboardInterrupt from error
