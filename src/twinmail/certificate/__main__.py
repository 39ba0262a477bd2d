"""``python3 -m twinmail.certificate``: the entry point of the certbot image."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from twinmail.certificate import certbot
from twinmail.certificate.certbot import Certbot
from twinmail.certificate.names import request
from twinmail.certificate.place import WISH
from twinmail.certificate.service import RETRY, Service
from twinmail.config import Config
from twinmail.durable_file import NotWritten
from twinmail.errors import PermanentError
from twinmail.sync.log import Log, utc_now

_VOLUMES = Path("/var/lib/twinmail")
_SECRETS = Path("/etc/twinmail-secrets")
PORT = 10080


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python3 -m twinmail.certificate", description="Keep the certificate of a server."
    )
    options.add_argument("--config", type=Path, required=True, help="twinmail.toml")
    options.add_argument("--server", required=True, help="which of the servers in it this is")
    options.add_argument(
        "--tls", type=Path, default=_VOLUMES / "tls", help="folder for servers (default: %(default)s)"
    )
    options.add_argument(
        "--acme", type=Path, default=_VOLUMES / "acme", help="folder of certbot (default: %(default)s)"
    )
    options.add_argument(
        "--challenges",
        type=Path,
        default=_VOLUMES / "challenges",
        help="folder that the web server shows on port 80 (default: %(default)s)",
    )
    options.add_argument(
        "--port", type=int, default=PORT, help="without a web server: where to listen (default: %(default)s)"
    )
    options.add_argument(
        "--directory", default=certbot.LETS_ENCRYPT, help="the authority (default: %(default)s)"
    )
    options.add_argument(
        "--wish",
        type=Path,
        default=_SECRETS / WISH,
        help="file that says by another text that a new key is wanted (default: %(default)s)",
    )
    options.add_argument(
        "--retry-seconds",
        type=float,
        default=RETRY.total_seconds(),
        help="pause after a failure, doubled after each further one (default: %(default)s)",
    )
    options.add_argument(
        "--placeholder",
        action="store_true",
        help="only make sure that servers find something to start with, and end",
    )
    return options


def main(arguments: Sequence[str], log: Log) -> None:
    """Run until SIGTERM.

    Raises:
        PermanentError: the arguments or the configuration are wrong.
        NotWritten: with ``--placeholder``, transient.
    """
    told = parser().parse_args(arguments)
    config = Config.load(told.config)
    if told.server not in config.servers:
        known = ", ".join(config.servers)
        raise PermanentError(f"--server {told.server}: expected one of {known}, as in {told.config}")
    # Keys are private, and so is everything else that is written here, except for what all the world may see.
    os.umask(0o077)
    authority = Certbot(told.directory, told.acme, told.challenges, config.operator, told.port, told.wish)
    service = Service(
        request(config, told.server),
        told.tls,
        authority,
        log,
        utc_now,
        timedelta(seconds=told.retry_seconds),
    )
    if told.placeholder:
        service.prepare()
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        # Also while certbot runs, which ends with this: what it got by then is installed at the next start.
        signal.signal(number, lambda *_: sys.exit(0))
    log.info("started", server=told.server, names=service.request.names, challenge=service.request.challenge)
    while True:
        following = service.turn()
        time.sleep(max(0.0, (following - utc_now()).total_seconds()))


def run() -> None:
    """Run with this process's arguments, and end it."""
    log = Log(sys.stderr)
    try:
        main(sys.argv[1:], log)
    except (PermanentError, NotWritten, OSError) as error:
        log.error("cannot run", error=str(error))
        sys.exit(1)


if __name__ == "__main__":
    run()
