"""``python3 -m twinmail.relay``: the entry point of the relay, in the syncer's image."""

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import botocore.session

from twinmail import live_config
from twinmail.durable_file import NotWritten
from twinmail.errors import PermanentError
from twinmail.relay.server import Relay, Session
from twinmail.relay.ses_smtp import SmtpSending
from twinmail.relay.spool import Spool
from twinmail.smtp_credentials import TLS_PORT, Credential, Endpoint, smtp_password
from twinmail.sync.log import Log

RETRY_SECONDS = 10.0
_SECRET_OCTETS = 16
# Of the 5 seconds that SIGTERM allows.
_STOP_SECONDS = 4.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python3 -m twinmail.relay", description="Send what Dovecot's submission service took, by SES."
    )
    options.add_argument("--config", type=Path, required=True, help="twinmail.toml")
    options.add_argument("--mail", type=Path, required=True, help="folder of the mailboxes")
    options.add_argument("--secret", type=Path, required=True, help="file with the password Dovecot uses")
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    options.add_argument("--port", type=int, required=True, help="port to listen on")
    options.add_argument("--ses", default="", help="HOST:PORT of SES's endpoint (default: the region's)")
    options.add_argument("--ca", type=Path, help="certificates that SES's endpoint may be signed by")
    return options


def main(arguments: Sequence[str], log: Log) -> None:
    """Run the relay until SIGTERM.

    Raises:
        PermanentError: the arguments, the configuration or the credentials are wrong.
    """
    told = parser().parse_args(arguments)
    os.umask(0o077)
    config = live_config.follow(told.config, lambda text: log.error("configuration", error=text))
    secret = _secret(told.secret)
    host, _, port = (told.ses or f"{Endpoint.of_region(config.region).host}:{TLS_PORT}").rpartition(":")
    if not host or not port.isdecimal():
        raise PermanentError(f"--ses: expected HOST:PORT, got {told.ses!r}")
    tls = ssl.create_default_context(cafile=str(told.ca) if told.ca else None)
    session = botocore.session.get_session()
    _credential(session, config.region)
    sending = SmtpSending(host, int(port), tls, lambda: _credential(session, config.region))
    spool = Spool(told.mail, config.region)
    spool.open()
    relay = Relay(config, sending, spool, log)
    asyncio.run(
        _serve(relay, spool, lambda: Session(relay, secret, config, config.limits.message_bytes), told, log)
    )


async def _serve(
    relay: Relay, spool: Spool, factory: Callable[[], Session], told: argparse.Namespace, log: Log
) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = await loop.create_server(factory, told.host, told.port)
    log.info("started", listen=f"{told.host}:{told.port}")
    while not stopping.is_set():
        await loop.run_in_executor(None, _retry, spool, log)
        try:
            await asyncio.wait_for(stopping.wait(), RETRY_SECONDS)
        except TimeoutError:
            continue
    server.close()
    ended = await relay.drain(_STOP_SECONDS)
    log.info("stopped", in_hand="finished" if ended else "left for the client to send again")


def _retry(spool: Spool, log: Log) -> None:
    """Write the copies that are still owed."""
    for owed in spool.owed():
        try:
            spool.settle(owed)
            log.info("copy written", file=owed.name)
        except Exception as error:  # noqa: BLE001 - one file must not keep the others, nor end the relay
            log.error("no copy yet", file=owed.name, error=str(error))


def _secret(path: Path) -> str:
    try:
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"--secret: {path}: cannot be read: {error}") from error
    if len(secret) < _SECRET_OCTETS:
        raise PermanentError(f"--secret: {path}: expected at least {_SECRET_OCTETS} characters")
    return secret


def _credential(session: object, region: str) -> Credential:
    """SES's SMTP credential of the access key that the SDK finds.

    Raises:
        PermanentError: there is none, or a temporary one, which SES's endpoint does not take.
    """
    found = session.get_credentials()  # type: ignore[attr-defined]
    if found is None:
        raise PermanentError("no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    frozen = found.get_frozen_credentials()
    if frozen.token:
        raise PermanentError(
            "temporary AWS credentials: SES's SMTP endpoint takes an IAM user's access key only"
        )
    return Credential(frozen.access_key, smtp_password(frozen.secret_key, region))


def run() -> None:
    """Run with this process's arguments, and end it."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    log = Log(sys.stderr)
    code = 0
    try:
        main(sys.argv[1:], log)
    except (PermanentError, NotWritten, OSError) as error:
        log.error("cannot run", error=str(error))
        code = 1
    sys.stderr.flush()
    # A message on its way to SES may still wait for the answer; its client sends it again.
    os._exit(code)


if __name__ == "__main__":
    run()
