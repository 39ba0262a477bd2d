"""``lightsail/compose.yaml``, and what stands beside it on a server: what it is filled in with; pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from twinmail.config import Config
from twinmail.deploy import running, server_files, template
from twinmail.deploy.server_files import PORTS, PRODUCTION, ServerFile, ServerPorts, Surroundings

FILE = Path("lightsail") / "compose.yaml"
IMAGES = ("dovecot", "syncer", "roundcube", "certbot")

MEMORY: Mapping[str, str] = {
    "dovecot": "320m",
    "syncer": "256m",
    "relay": "160m",
    "php": "160m",
    "web": "48m",
    "certbot": "96m",
}
"""The most that each container may take; together more than the machine has, since they never do at once."""

TLS_VOLUME = "tls"

MOUNT_POINTS = ("dovecot/tls", "web/tls", "web/challenges", "php/web", "certbot")
"""Empty folders among the files, where other folders are mounted: containers may not make them."""

_IMAGE = re.compile(r"\$\{([A-Z]+)_IMAGE:\?\}")


@dataclass(frozen=True)
class Part:
    """A service of ``compose.yaml``.

    Attributes:
        image: one of `IMAGES`.
        stays: whether it runs all the time; the others make something ready, and end.
    """

    name: str
    image: str
    stays: bool


def parts(text: str, on: Sequence[str]) -> tuple[Part, ...]:
    """The services of ``compose.yaml``, whose text is *text*, that run with the profiles *on*."""
    found = []
    for name, service in yaml.safe_load(text)["services"].items():
        if "profiles" not in service or set(service["profiles"]) & set(on):
            match = _IMAGE.fullmatch(service["image"])
            assert match is not None, f"{FILE}: {name}: {service['image']}"
            found.append(Part(name, match[1].lower(), service["restart"] != "no"))
    return tuple(found)


def profiles(config: Config, server: str, tls: str = TLS_VOLUME) -> tuple[str, ...]:
    """The optional parts of ``compose.yaml`` that *server* runs."""
    one = config.servers[server]
    optional = (
        ("submission", one.submission),
        ("webmail", one.webmail),
        # Who brings a certificate keeps it.
        ("certbot", tls == TLS_VOLUME),
    )
    return tuple(name for name, on in optional if on)


def environment(
    config: Config,
    server: str,
    files: Sequence[ServerFile],
    references: Mapping[str, str],
    ports: ServerPorts = PORTS,
    surroundings: Surroundings = PRODUCTION,
    tls: str = TLS_VOLUME,
    project: str = running.PROJECT,
) -> dict[str, str]:
    """The texts of ``.env`` and ``aws.env``, by name.

    Args:
        files: what `server_files.plan` says.
        references: what the engine calls each of `IMAGES`, with its digest.
        tls: the volume with the certificate, or an absolute path.
        project: what Compose calls all of it.
    """
    groups = {
        "dovecot": (server_files.DOVECOT,),
        "syncer": (server_files.SYNCER,),
        "relay": (server_files.RELAY,),
        "php": (server_files.PHP,),
        "web": (server_files.WEB,),
        "certbot": (server_files.CERTBOT,),
    }
    authorities = server_files.relay_arguments(config, ports, surroundings)[-1].partition("=")[2]
    variables = server_files.aws_environment(config, surroundings)
    return {
        ".env": template.render(
            "compose.env.j2",
            project=project,
            profiles=profiles(config, server, tls),
            server=server,
            images={name: references[name] for name in IMAGES},
            memory=MEMORY,
            settings={name: server_files.revision(files, *one) for name, one in groups.items()},
            ports=ports,
            ses=surroundings.ses_of(config),
            authorities=authorities,
            tls=tls,
        ),
        "aws.env": template.render("aws.env.j2", variables=variables),
    }
