"""``./inv up``: the whole system on this machine, with one real message to prove it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError, TransientError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

# Restarting a part that keeps ending only hides the reason.
RESTARTS = 5


@command(
    help={
        "once": "exit when the first message arrived on both servers (0), or did not (1)",
        "fresh": "start clean: forget the mail, the certificates and the accounts of earlier runs",
        "json": "print one JSON object instead of the table",
        "runtime": "docker or namespace (default: docker where an engine answers, else namespace)",
        "endpoint": "use the LocalStack that already runs at this URL",
        "config": "another configuration than twinmail.toml",
        "state": "folder for the mail and everything else that stays (default: .twinmail/local)",
    }
)
def up(
    context: Any,
    once: bool = False,
    fresh: bool = False,
    json_: bool = False,
    runtime: str = "",
    endpoint: str = "",
    config: str = "",
    state: str = "",
) -> None:
    """Run the whole system here and send one message through it, until Ctrl-C."""
    # Stopping by a service manager or a script is as clean as by hand.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from twinmail.config import FILE, Config
    from twinmail.local import accounts
    from twinmail.local.state import Claim, State
    from twinmail.runtime.emulation import host_platform
    from twinmail.runtime.select import choose
    from twinmail.tasks import first_account

    folders = State.of_checkout(PROJECT, Path(state).absolute() if state else None)
    config_file = Path(config).absolute() if config else PROJECT / FILE
    claim = Claim(folders)  # held until this process ends
    if not claim.take():
        raise PermanentError("a system already runs here; stop it with Ctrl-C there")
    first = first_account.ensure(config_file)
    Config.load(config_file)
    platform = host_platform()
    chosen = choose(runtime or None, folders.root, folders.layers)
    _build(platform, json_)
    if fresh:
        _say("removing the state of earlier runs")
        chosen.remove_leftovers()
        shutil.rmtree(folders.root, ignore_errors=True)
    if first:
        folders.root.mkdir(parents=True, exist_ok=True)
        accounts.remember(folders, first)

    from twinmail.local.system import LocalSystem

    system = LocalSystem(folders, config_file, chosen, platform, say=_say, endpoint=endpoint or None)
    try:
        system.start()
        _say("sending the first message")
        delivered = _first_message(system)
        elapsed = round(_seconds_since_start(), 1)
        _say(f"up in {elapsed} s")
        if json_:
            found = {
                "delivered": delivered,
                "runtime": chosen.name,
                "platform": platform,
                "cold_seconds": elapsed,
                "webmail": {server: _webmail(system, server) for server in system.webmails},
            }
            print(json.dumps(found), flush=True)
        else:
            _print_table(system, delivered, once)
        if not once:
            _supervise(system)
    except KeyboardInterrupt:
        if once:
            raise
    finally:
        _say("stopping")
        system.stop()
        _say("stopped; the mail is kept for the next ./inv up")


def _first_message(system: Any) -> dict[str, int]:
    """Send the message that proves the path; milliseconds by server."""
    from twinmail.local import accounts, first_message, pki

    config = system.config
    user = accounts.demo_user(system.state, config)
    message = first_message.compose(f"hello@{config.domains[0]}", _address(config, user.name))
    edge = (system.describe().edge["host"], system.ports["edge"])
    logins = {server: system.account(server, user) for server in config.servers}
    return dict(first_message.deliver(edge, message, logins, pki.client_context(system.ca)).milliseconds)


def _address(config: Any, mailbox: str) -> str:
    """An address of *mailbox* that is no catch-all; the demo user has one."""
    return next(str(one) for one in config.mailboxes[mailbox].addresses if not one.startswith("*"))


def _webmail(system: Any, server: str) -> str:
    """Address of the webmail of *server*."""
    return f"https://127.0.0.1:{system.ports[f'{server}-webmail']}/"


def _print_table(system: Any, delivered: dict[str, int], once: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from twinmail.local import accounts

    user = accounts.demo_user(system.state, system.config)
    table = Table("server", "IMAPS", "the first message was there after", title="twinmail is up")
    for server, milliseconds in delivered.items():
        table.add_row(server, f"127.0.0.1:{system.ports[f'{server}-imaps']}", f"{milliseconds} ms")
    console = Console(highlight=False)
    console.print(table)
    first = next(iter(delivered))
    lines = {
        "user": user.name,
        "password": user.password,
        **{f"webmail ({server})": _webmail(system, server) for server in system.webmails},
        "CA file": system.ca,
        "SMTP in (the Internet's side)": f"127.0.0.1:{system.ports['edge']}",
        "SMTP out (SSL/TLS)": f"127.0.0.1:{system.ports['submissions']}",
        "SMTP out (STARTTLS)": f"127.0.0.1:{system.ports['submission']}",
        **{
            f"SMTP out ({server})": f"127.0.0.1:{system.ports[f'{server}-submission']}, the password above"
            for server in system.relays
        },
        "LocalStack": system.endpoint,
        "runtime": system.runtime.name,
    }
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        print(f"  {name:<{width}}  {value}")
    # Before the progress on standard error goes on, wherever the two lead.
    sys.stdout.flush()
    if once:
        return
    ca, port = system.ca, system.ports[f"{first}-imaps"]
    print("\nTry next, in another terminal:")
    print(f"  ./inv send tests/messages --to {_address(system.config, user.name)}")
    print(f"  openssl s_client -quiet -verify_return_error -CAfile '{ca}' -connect 127.0.0.1:{port}")
    for server in system.webmails:
        print(f"  a browser: {_webmail(system, server)}, logging in as {_address(system.config, user.name)}")
        print("    with the password above; it knows this machine's authority once you import the CA file")
    print(f"  a mail client: IMAP, 127.0.0.1, port {port}, SSL/TLS, the user and password above")
    print(f"  ./inv smtp-credentials {user.name}   (what the client needs to send)")
    print("  ./inv status")
    print("\nCtrl-C stops it and keeps the mail.", flush=True)


def _supervise(system: Any) -> None:
    """Keep every part running until interrupted."""
    restarts: dict[str, int] = {}
    while True:
        for name, status in system.ended().items():
            count = restarts[name] = restarts.get(name, 0) + 1
            tail = system.tail(name, 10)
            if count > RESTARTS:
                raise TransientError(f"{name} ended {count} times, last with {status.code}; its log:\n{tail}")
            _say(f"{name} ended with exit code {status.code}; starting it again. Its log:\n{tail}")
            system.restart(name)
        time.sleep(0.5)


def _build(platform: str, quiet: bool) -> None:
    """Build the images for this platform only; a warm start builds nothing."""
    _say("building the images")
    argv = [sys.executable, str(PROJECT / "tasks.py"), "build", "--platform", platform]
    result = subprocess.run(argv, check=False, stdout=sys.stderr if quiet else None)
    if result.returncode:
        raise PermanentError("the images could not be built; see above")


def _seconds_since_start() -> float:
    """Age of this process: the wrapper became it by exec, so the set-up of the venv counts."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def _say(text: str) -> None:
    """One line a step on standard error, with the seconds since the start."""
    print(f"{_seconds_since_start():6.1f} s  {text}", file=sys.stderr, flush=True)
