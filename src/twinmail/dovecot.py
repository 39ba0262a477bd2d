"""What the Dovecot image is told about the machine it runs on: one small file."""

from dataclasses import dataclass, field

FILE = "local.conf"

# conf/fts.conf of the image turns it on. What is indexed stays, and is used again when it is on again.
_WITHOUT_SEARCH_INDEX = """
mail_plugins {
  fts = no
  fts_flatcurve = no
}
"""

_WITHOUT_DELAYS = """
# Wrong passwords delay the next attempt from the same address. Here every client has the same address, so
# one with an old password would slow all the others down.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
"""


@dataclass(frozen=True)
class Submission:
    """Sending with the mailbox's own password: on *port*, handed on to the relay on *relay* with *secret*."""

    port: int
    relay: int
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Listening:
    """Where Dovecot listens.

    Attributes:
        imaps: TCP port.
        sieve: TCP port of ManageSieve.
        addresses: of the machine, as Dovecot writes them; ``* ::`` is all.
    """

    imaps: int
    sieve: int
    addresses: str = "* ::"


def local_conf(
    listening: Listening,
    full_text_search: bool = True,
    submission: Submission | None = None,
    delays: bool = True,
) -> str:
    """The text of ``/etc/twinmail/local.conf``.

    Args:
        full_text_search: without it a search reads every message, and nothing keeps an index.
        delays: whether wrong passwords delay the next attempt from their address.
    """
    return f"""\
listen = {listening.addresses}
service imap-login {{
  inet_listener imaps {{
    port = {listening.imaps}
  }}
}}
service managesieve-login {{
  inet_listener sieves {{
    port = {listening.sieve}
  }}
}}
{"" if delays else _WITHOUT_DELAYS}{"" if full_text_search else _WITHOUT_SEARCH_INDEX}\
{_submission_conf(submission) if submission else ""}"""


def _submission_conf(one: Submission) -> str:
    return f"""
protocols {{
  submission = yes
}}
service submission-login {{
  inet_listener submissions {{
    port = {one.port}
  }}
}}
submission_relay_port = {one.relay}
submission_relay_password = {one.secret}
"""
