"""Run the SES edge: ``python -m twinmail_localstack.edge --listen 127.0.0.1:2525``.

LocalStack is found with the AWS SDK's standard variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …). A line
with ``"event": "ready"`` says that the ports accept. SIGTERM finishes the transactions in hand.
"""

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from twinmail_localstack.edge import certificate, inbound, submission
from twinmail_localstack.edge.acceptance import Acceptance
from twinmail_localstack.edge.actions import Actions
from twinmail_localstack.edge.clients import CONNECTIONS, Clients
from twinmail_localstack.edge.delivery import Delivery
from twinmail_localstack.edge.localstack import LocalStack
from twinmail_localstack.edge.log import log
from twinmail_localstack.edge.rules import Rules
from twinmail_localstack.edge.session import Session, Sessions

GRACE_SECONDS = 8.0
"""How long SIGTERM waits: less than the ten seconds after which a runtime kills."""


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    listen: tuple[str, int]
    submission: tuple[str, int] | None
    submissions: tuple[str, int] | None
    region: str
    certificate: Path | None
    key: Path | None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return host, int(port)


def arguments(argv: list[str]) -> Arguments:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m twinmail_localstack.edge", description=__doc__)
    parser.add_argument("--listen", metavar="HOST:PORT", type=_address, required=True, help="inbound MX")
    parser.add_argument(
        "--submission", metavar="HOST:PORT", type=_address, help="SES SMTP endpoint, STARTTLS (587)"
    )
    parser.add_argument(
        "--submissions", metavar="HOST:PORT", type=_address, help="SES SMTP endpoint, implicit TLS (465)"
    )
    parser.add_argument("--region", default="eu-central-1")
    parser.add_argument("--certificate", metavar="FILE", type=Path, help="PEM (default: self-signed)")
    parser.add_argument("--key", metavar="FILE", type=Path, help="PEM (default: in the certificate file)")
    return Arguments(**vars(parser.parse_args(argv)))


async def _serve(given: Arguments) -> None:
    region = given.region
    clients = Clients.connect(region)
    tls = certificate.context(
        given.certificate,
        given.key,
        (f"inbound-smtp.{region}.amazonaws.com", f"email-smtp.{region}.amazonaws.com"),
    )
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    sessions = Sessions()
    with ThreadPoolExecutor(CONNECTIONS, "action") as executor:
        rules = Rules(clients.ses, executor)
        acceptance = Acceptance(rules, Actions(clients, region), executor, region)
        localstack = LocalStack(clients.ses.meta.endpoint_url)
        handler = inbound.Inbound(rules, acceptance)
        servers = {
            "listen": await _listen(inbound.session_factory(handler, sessions, tls, region), given.listen)
        }
        sender = submission.Submission(localstack, executor, clients.credentials[0])
        for name, address in (("submission", given.submission), ("submissions", given.submissions)):
            if address:
                wrapped = name == "submissions"
                factory = submission.session_factory(
                    sender, sessions, tls, region, localstack, executor, clients.credentials, wrapped
                )
                servers[name] = await _listen(factory, address, tls if wrapped else None)
        delivery = Delivery(localstack, rules, acceptance, clients.sns, executor, region)
        delivery.start(loop)
        log("ready", **{name: _bound(server) for name, server in servers.items()})
        await stopping.wait()
        log("stopping", sessions=len(sessions.open))
        for server in servers.values():
            server.close()
        deadline = loop.time() + GRACE_SECONDS
        await sessions.drain(GRACE_SECONDS)
        await delivery.drain(deadline - loop.time())
        await acceptance.drain(deadline - loop.time(), lambda left: log("stopped", unfinished=left))


async def _listen(
    factory: Callable[[], Session], address: tuple[str, int], tls: ssl.SSLContext | None = None
) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(factory, *address, backlog=256, ssl=tls)


def _bound(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"


def main() -> None:
    """Run until SIGTERM."""
    given = arguments(sys.argv[1:])
    # aiosmtpd logs every command; what matters is in our own log.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    asyncio.run(_serve(given))


if __name__ == "__main__":
    main()
