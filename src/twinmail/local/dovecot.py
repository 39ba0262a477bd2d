"""What the Dovecot of a local server is told: loopback only, and no delays after wrong passwords."""

from twinmail import dovecot
from twinmail.dovecot import FILE, Listening, Submission
from twinmail.local.state import LOOPBACK

__all__ = ["FILE", "Submission", "local_conf"]


def local_conf(
    port: int, sieve: int, full_text_search: bool = True, submission: Submission | None = None
) -> str:
    """The text of ``/etc/twinmail/local.conf`` for IMAPS on loopback *port* and ManageSieve on *sieve*.

    Without *full_text_search* a search reads every message, and nothing keeps an index.
    """
    listening = Listening(port, sieve, addresses=LOOPBACK)
    return dovecot.local_conf(listening, full_text_search, submission, delays=False)
