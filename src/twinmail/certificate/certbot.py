"""certbot, the program that speaks with the authority (RFC 8555): what it is told, and what it answers.

When to ask is not left to it: this loop must know, and say, what comes next.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail import durable_file
from twinmail.certificate import pair
from twinmail.certificate.names import ALONE, DNS, HTTP, Request
from twinmail.certificate.pair import Pair
from twinmail.certificate.place import WISH
from twinmail.certificate.validity import Unreadable
from twinmail.errors import TransientError

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
PROGRAM = "/usr/bin/certbot"

SECONDS = 900.0
"""For one attempt. Records in the DNS take minutes to be seen by everybody."""

_NAME = "server"
_SAID = 400


class NotIssued(TransientError):
    """The authority gave no certificate this time."""


@dataclass(frozen=True)
class Certbot:
    """Asks the authority at *directory*.

    Attributes:
        folder: what it keeps: its account at the authority, and every certificate with its key.
        challenges: the folder that the web server shows at ``/.well-known/acme-challenge/``'s parent.
        operator: who the authority may write to.
        port: where it listens itself, for `ALONE`.
        wish: the file that another text is put into where a new key is wanted before its time; a certificate
            answers the text of when it was got.
    """

    directory: str
    folder: Path
    challenges: Path
    operator: str | None
    port: int
    wish: Path | None = None
    program: str = PROGRAM

    def command(self, request: Request, temporary: Path) -> list[str]:
        """The command line that gets a new certificate."""
        contact = ("--email", self.operator) if self.operator else ("--register-unsafely-without-email",)
        return [
            self.program,
            "certonly",
            *("--non-interactive", "--agree-tos", *contact),
            *("--server", self.directory),
            *("--config-dir", str(self.folder)),
            *("--work-dir", str(temporary), "--logs-dir", str(temporary)),
            *("--cert-name", _NAME, "--key-type", "ecdsa"),
            # It was decided that one is due, or that the names have changed.
            *("--force-renewal", "--renew-with-new-domains"),
            *self._challenge(request.challenge),
            *(part for name in request.names for part in ("--domain", name)),
        ]

    def obtain(self, request: Request, temporary: Path) -> None:
        """Get a new certificate; `latest` has it afterwards.

        Raises:
            NotIssued: the authority refused, or did not answer; the text says why.
            NotWritten: transient; asked for again.
        """
        wish = self._wish()
        try:
            done = subprocess.run(
                self.command(request, temporary),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotIssued(f"{', '.join(request.names)}: no answer in {SECONDS:.0f} seconds") from error
        except OSError as error:
            raise NotIssued(f"{self.program}: cannot be started: {error.strerror}") from error
        if done.returncode != 0:
            said = reason(done.stdout.decode("utf-8", "replace").splitlines())
            raise NotIssued(f"{', '.join(request.names)}: {self.directory}: {said or 'no reason given'}")
        if wish:
            durable_file.write(self.folder / WISH, wish)

    def wanted(self) -> bool:
        """Whether a new key is wanted, whatever there is."""
        wish = self._wish()
        try:
            return wish not in (b"", (self.folder / WISH).read_bytes())
        except OSError:
            return bool(wish)

    def latest(self) -> Pair | None:
        """The last certificate that was got; None if none was."""
        live = self.folder / "live" / _NAME
        try:
            return pair.load((live / "fullchain.pem").read_bytes(), (live / "privkey.pem").read_bytes())
        except (OSError, Unreadable):
            return None

    def _wish(self) -> bytes:
        try:
            return self.wish.read_bytes() if self.wish else b""
        except OSError:
            return b""

    def _challenge(self, challenge: str) -> Sequence[str]:
        return {
            HTTP: ("--webroot", "--webroot-path", str(self.challenges)),
            ALONE: ("--standalone", "--http-01-port", str(self.port)),
            DNS: ("--dns-route53",),
        }[challenge]


def reason(lines: Sequence[str]) -> str:
    """Why it failed, in one line of what certbot printed: the authority's own words where there are any."""
    text = [line.strip() for line in lines if line.strip()]
    details = [line.partition(":")[2].strip() for line in text if line.startswith("Detail:")]
    noise = ("Saving debug log", "Ask for help", "Some challenges have failed", "See the logfile", "Hint:")
    rest = [line for line in text if not line.startswith(noise) and not set(line) <= set("- ")]
    return "; ".join(dict.fromkeys(details or rest[-3:]))[:_SAID]
