"""``python3 -m twinmail.sync``: the entry point of the syncer's image."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from twinmail import live_config
from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.filter.pigeonhole import Pigeonhole
from twinmail.ledger import Ledger
from twinmail.outgoing import SETTINGS, SesSending
from twinmail.routing import recipient_of
from twinmail.sync.accounts import AccountsChore
from twinmail.sync.answers import Answers
from twinmail.sync.aws import Aws
from twinmail.sync.carrier import Carrier
from twinmail.sync.certificate import CertificateChore, Operator
from twinmail.sync.chores import Chore
from twinmail.sync.decisions import Decisions, Desk
from twinmail.sync.filter_notices import FilterNotices
from twinmail.sync.health import Health
from twinmail.sync.indexing import IndexingChore
from twinmail.sync.junk import JunkLook, JunkMemory
from twinmail.sync.log import Log, step_clock
from twinmail.sync.packed_source import PackedSource
from twinmail.sync.quota import QuotaChore
from twinmail.sync.s3 import S3Source
from twinmail.sync.s3_packs import S3Packs
from twinmail.sync.sent import SentPull, SentSettle
from twinmail.sync.service import Options, Service
from twinmail.sync.sessions import Sessions
from twinmail.sync.settings import SettingsLook, SettingsPull, SharedSettings
from twinmail.sync.sqs import SqsQueue
from twinmail.sync.state_store import S3StateStore
from twinmail.sync.steps import Checkpoint, Crash, Slow, no_checkpoint


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python3 -m twinmail.sync", description="Carry messages from the log in S3 into the Maildirs."
    )
    options.add_argument("--config", type=Path, required=True, help="twinmail.toml")
    options.add_argument("--server", required=True, help="which of the servers in it this is")
    options.add_argument("--mail", type=Path, required=True, help="folder of the mailboxes")
    options.add_argument("--state", type=Path, required=True, help="folder of the ledger")
    options.add_argument(
        "--health-port", type=int, required=True, help="HTTP port for health (0: any free one)"
    )
    options.add_argument("--host", default="127.0.0.1", help="address of that port (default: %(default)s)")
    options.add_argument("--tls", type=Path, help="folder of the server's certificate, to be watched")
    options.add_argument("--imaps", default="", help="HOST:PORT at which Dovecot serves it")
    options.add_argument("--no-push", action="store_true", help="do not receive from the queue")
    options.add_argument("--no-poll", action="store_true", help="do not list the log")
    options.add_argument(
        "--poll-seconds", type=float, default=60.0, help="between listings (default: %(default)s)"
    )
    options.add_argument("--crash-at", default="", help=argparse.SUPPRESS)
    options.add_argument("--slow", type=float, default=0.0, help=argparse.SUPPRESS)
    options.add_argument("--clock-offset", type=float, default=0.0, help=argparse.SUPPRESS)
    return options


def main(arguments: Sequence[str], log: Log) -> int:
    """Run the syncer and return its exit code.

    Raises:
        PermanentError: the arguments, the configuration or the credentials are wrong.
    """
    told = parser().parse_args(arguments)
    config = live_config.follow(told.config, lambda text: log.error("configuration", error=text))
    if told.server not in config.servers:
        known = ", ".join(config.servers)
        raise PermanentError(f"--server {told.server}: expected one of {known}, as in {told.config}")
    if told.no_push and told.no_poll:
        raise PermanentError("--no-push and --no-poll together leave nothing to do; give one of them")
    step_clock(timedelta(seconds=told.clock_offset))
    # Maildirs are private, and so is everything else that is written here.
    os.umask(0o077)
    options = Options(
        server=told.server,
        mail=told.mail,
        state=told.state,
        poll=not told.no_poll,
        poll_seconds=told.poll_seconds,
        checkpoint=_checkpoint(told),
    )
    aws = Aws(config.region)
    source = PackedSource(S3Source(config.bucket, aws), S3Packs(config.bucket, aws), log)
    sessions = Sessions(told.mail)
    ses = SesSending(aws.client("ses", SETTINGS))
    certificate = _certificate(told, config, ses, sessions, log) if told.tls else None
    queue = None if told.no_push else SqsQueue(config.queue(told.server), aws)
    state = S3StateStore(config.bucket, aws)
    answers = Answers(config, state, source, ses, told.server, log)
    shared = SharedSettings(told.server, config.mailboxes, told.mail, told.state, state, log)

    watching: list[Chore] = [certificate] if certificate else []

    def chores(ledger: Ledger, carrier: Carrier) -> list[list[Chore]]:
        """What this server does besides carrying messages: groups, each in the order of its turns.

        A password that is revoked must not wait for SES or for a large download.
        """
        sent = SentSettle(config, told.mail, log)
        indexing = IndexingChore(told.mail, log) if config.servers[told.server].full_text_search else None
        if indexing is not None:
            carrier.arrived = indexing.arrived
        return [
            [AccountsChore(state, told.mail, log, sessions.end)],
            watching,
            [
                *([indexing] if indexing else []),
                QuotaChore(config, told.server, told.mail, carrier, log),
                SettingsLook(shared),
                SettingsPull(shared, told.poll_seconds),
                JunkLook(config, told.mail, told.state, ledger, shared, log),
                answers,
                FilterNotices(decisions, ledger, told.mail, partial(recipient_of, config, ()), log),
                sent,
                SentPull(state, sent, log),
            ],
        ]

    desk = Desk(
        store=state,
        pigeonhole=Pigeonhole(told.mail),
        mail=told.mail,
        recipient=lambda entry, mailbox: recipient_of(config, entry.rcpt_to, mailbox),
        server=told.server,
        junk=JunkMemory(shared),
        hand=answers.hand,
    )
    decisions = Decisions(desk, log)
    watched = certificate.status if certificate else None
    service = Service(config, options, source, queue, log, chores, decisions, watched)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    pages = (service.status, service.find, service.restore, service.deliveries, service.mend)
    health = Health(told.host, told.health_port, *pages)
    log.info("started", server=told.server, bucket=config.bucket, health=f"{told.host}:{health.port}")
    try:
        return service.run()
    finally:
        health.close()


def _checkpoint(told: argparse.Namespace) -> Checkpoint:
    """What happens after each step: nothing, but in a test of crashes or of slow disks."""
    if told.crash_at:
        return Crash.parse(told.crash_at)
    return Slow(told.slow) if told.slow else no_checkpoint


def _certificate(
    told: argparse.Namespace, config: Config, sending: SesSending, sessions: Sessions, log: Log
) -> CertificateChore:
    """The chore that watches the certificate.

    Raises:
        PermanentError: ``--imaps`` is no address.
    """
    host, _, port = told.imaps.rpartition(":")
    if told.imaps and not (host and port.isdecimal()):
        raise PermanentError(f"--imaps: expected HOST:PORT, got {told.imaps!r}")
    source = next((one for name in config.mailboxes for one in config.addresses_of(name)), None)
    operator = Operator(config.operator, source, sending) if config.operator and source else None
    imaps = (host, int(port)) if told.imaps else None
    return CertificateChore(told.server, told.tls, imaps, sessions.renew, operator, log)


def run() -> None:
    """Run with this process's arguments, and end it."""
    log = Log(sys.stderr)
    try:
        code = main(sys.argv[1:], log)
    except (PermanentError, OSError) as error:
        log.error("cannot run", error=str(error))
        code = 1
    # A long poll or a download may still wait for its answer; nothing durable depends on it.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
