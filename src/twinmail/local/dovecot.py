"""What the Dovecot image is told about the machine it runs on: one small file."""

from twinmail.local.state import LOOPBACK

FILE = "local.conf"


def local_conf(port: int, sieve: int) -> str:
    """The text of ``/etc/twinmail/local.conf`` for IMAPS on loopback *port* and ManageSieve on *sieve*."""
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
"""
