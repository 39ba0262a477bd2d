"""What the local web server serves to mail clients: production's files, with the ports of this machine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from twinmail import durable_file
from twinmail.client_profile import apple, web
from twinmail.client_profile.site import Endpoint, Site, site
from twinmail.config import Config
from twinmail.local.state import LOOPBACK, Ports


def local_site(config: Config, ports: Ports) -> Site:
    """The endpoints of the system on this machine."""
    deployed = site(config)
    webmail = next((one.name for one in config.servers.values() if one.webmail), None)
    return replace(
        deployed,
        incoming=tuple(
            Endpoint(one.server, LOOPBACK, ports[f"{one.server}-imaps"]) for one in deployed.incoming
        ),
        relays=tuple(
            Endpoint(one.server, LOOPBACK, ports[f"{one.server}-submission"]) for one in deployed.relays
        ),
        ses=Endpoint("ses", LOOPBACK, ports["submissions"]),
        webmail=f"https://{LOOPBACK}:{ports[f'{webmail}-webmail']}" if webmail else "",
    )


def install(
    config: Config, ports: Ports, folder: Path, tls: Path, smtp_users: Mapping[str, str] | None = None
) -> None:
    """Write the files into *folder*, profiles signed with ``cert.pem`` and ``key.pem`` of *tls*.

    Raises:
        NotWritten: transient.
    """
    signer = apple.Signer.from_pem((tls / "cert.pem").read_bytes(), (tls / "key.pem").read_bytes())
    for name, data in web.files(config, local_site(config, ports), smtp_users or {}, signer).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        durable_file.write(path, data, mode=0o644)
