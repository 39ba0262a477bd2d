"""What the configuration says to the servers of a system that runs, written anew after a change."""

from twinmail import durable_file
from twinmail.config import FILE, Config
from twinmail.local import webmail
from twinmail.local.state import Ports, State


def refresh(state: State, config: Config, text: str, ports: Ports) -> None:
    """Give every server the configuration *text*, and what is rendered from it; nothing restarts.

    Syncers see new mailboxes and aliases within a second (`twinmail.live_config`).

    Raises:
        NotWritten: transient; doing it again completes it.
    """
    for name, server in config.servers.items():
        durable_file.write(state.settings(name) / FILE, text.encode("utf-8"))
        if server.webmail:
            webmail.prepare(state, config, ports, name)
