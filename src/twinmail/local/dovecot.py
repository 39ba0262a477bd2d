"""What the Dovecot image is told about the machine it runs on: one small file."""

from dataclasses import dataclass, field

from twinmail.local.state import LOOPBACK

FILE = "local.conf"


# conf/fts.conf of the image turns it on. What is indexed stays, and is used again when it is on again.
_WITHOUT_SEARCH_INDEX = """
mail_plugins {
  fts = no
  fts_flatcurve = no
}
"""


@dataclass(frozen=True)
class Submission:
    """Sending with the mailbox's own password: on *port*, handed on to the relay on *relay* with *secret*."""

    port: int
    relay: int
    secret: str = field(repr=False)


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


def local_conf(
    port: int, sieve: int, full_text_search: bool = True, submission: Submission | None = None
) -> str:
    """The text of ``/etc/twinmail/local.conf`` for IMAPS on loopback *port* and ManageSieve on *sieve*.

    Without *full_text_search* a search reads every message, and nothing keeps an index.
    """
    return f"""\
listen = {LOOPBACK}
service imap-login {{
  inet_listener imaps {{
    port = {port}
  }}
}}
service managesieve-login {{
  inet_listener sieves {{
    port = {sieve}
  }}
}}

# Wrong passwords delay the next attempt from the same address. Here every client has the same address, so
# one with an old password would slow all the others down.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
{"" if full_text_search else _WITHOUT_SEARCH_INDEX}{_submission_conf(submission) if submission else ""}"""
