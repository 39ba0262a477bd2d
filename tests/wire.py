"""What IMAP shows of a stored message."""


def as_imap(stored: bytes) -> bytes:
    r"""Return what ``FETCH BODY[]`` of Dovecot 2.4 yields for a file with exactly the octets *stored*.

    Two octets cannot pass IMAP as they are, and nothing else changes, whatever the message looks like:

    - LF without CR before it becomes CRLF: "lines" of IMAP literals end so (RFC 9051 §4.3.1 with RFC 5322
      §2.3). CR without LF stays alone.
    - NUL becomes 0x80: a literal must not contain it (RFC 9051 §9, ``CHAR8``).

    ``BINARY.PEEK[]`` (RFC 3516) would keep NUL, in a ``literal8``, but it adds CR just the same, and it
    decodes Base64 and quoted-printable parts. So no IMAP command shows the octets of such a message, and
    tests compare the files in the Maildir as well. ``tests/image/test_wire.py`` holds this against Dovecot.
    """
    return stored.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"\x80")
