"""The private Kustomization of a server: an overlay of ours, with its settings, secrets, images and names.

What is in git says how a server runs in a cluster; this says which one. It holds secrets, so it is written to
a folder that nobody else reads, and never committed.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinmail.access_key import NewKey
from twinmail.certificate import names as certificate_names
from twinmail.certificate.place import CERTIFICATE, KEY
from twinmail.config import FILE, Config
from twinmail.deploy import server_files
from twinmail.deploy.pins import Pin
from twinmail.deploy.server_files import PRODUCTION, ServerFile, ServerPorts, ServerSecrets, Surroundings
from twinmail.errors import PermanentError
from twinmail.production import Kubernetes

KUSTOMIZE = Path("k8s") / "kustomize"
OVERLAY, LOCAL = "picluster", "local"
NAME = "twinmail"
"""Of the deployment and its service."""

SUBMISSION, SIEVE, CERT_MANAGER, TUNNEL = "submission", "sieve", "cert-manager", "cloudflare-tunnel"
PORTS = ServerPorts(imaps=10993, submission=10465, health=8080)
"""What the containers listen on; the base names the same."""

# Where the syncer finds the certificate that it watches; the base mounts it there.
_CERTIFICATE = "/etc/twinmail-tls"
_KIND = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
_LIVE = {"options": {"disableNameSuffixHash": True}}


class NotForKubernetes(PermanentError):
    """The configuration asks of the cluster what is not built for it."""


@dataclass(frozen=True)
class Tls:
    """A certificate chain and its key, both PEM."""

    chain: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Request:
    """Everything that decides about a server's Kustomization.

    Attributes:
        text: of ``twinmail.toml``, from which `config` was read.
        images: what its containers run.
        tls: its certificate; None if cert-manager gets one.
        tunnel: credentials file (JSON) of the Cloudflare tunnel.
        dns: AWS credentials file (INI) with which cert-manager writes to Route 53; empty if the cluster has
            the Secret already.
        overlay: name of the overlay.
    """

    config: Config
    text: str
    server: str
    secrets: ServerSecrets
    images: Sequence[Pin]
    tls: Tls | None = None
    tunnel: bytes = field(default=b"", repr=False)
    dns: bytes = field(default=b"", repr=False)
    overlay: str = OVERLAY
    ports: ServerPorts = PORTS
    surroundings: Surroundings = PRODUCTION

    @property
    def kubernetes(self) -> Kubernetes:
        """Where the server runs."""
        return self.config.servers[self.server].kubernetes or Kubernetes()


def plan(request: Request, root: str) -> dict[str, bytes]:
    """The files of the Kustomization, by path in its folder.

    Args:
        root: path from that folder to ``k8s/kustomize``.

    Raises:
        NotForKubernetes: see there.
    """
    server = request.config.servers[request.server]
    if server.webmail:
        raise NotForKubernetes(
            f"server {request.server}: webmail is not built for Kubernetes; let another server have it "
            f"({FILE}: servers.{request.server}.webmail = false)"
        )
    where = request.kubernetes
    if request.tls is None and CERT_MANAGER not in where.components:
        raise NotForKubernetes(
            f"server {request.server}: no certificate; add {CERT_MANAGER!r} to "
            f"servers.{request.server}.kubernetes.components, or bring one: "
            f"cat {CERTIFICATE} {KEY} | ./inv secrets set tls/{request.server}/{KEY}"
        )
    components = [*([SUBMISSION] if server.submission else []), *where.components]
    files = server_files.plan(
        request.config, request.text, request.server, request.secrets, request.ports, request.surroundings
    )
    found = {one.path: one.data for one in files}
    generators = _generators(files, request)
    if request.tls is not None:
        found |= {f"tls/{CERTIFICATE}": request.tls.chain, f"tls/{KEY}": request.tls.key}
    if TUNNEL in components:
        found |= _tunnel_files(request)
    if request.dns:
        found |= _dns_files(request)
    document = {
        **_KIND,
        "namespace": where.namespace,
        "resources": [f"{root}/overlays/{request.overlay}"],
        "components": [f"{root}/components/{one}" for one in components],
        **generators,
        "labels": [{"pairs": {"app.kubernetes.io/name": NAME}}],
        "images": _images(request.images),
        "patches": [_patch(one) for one in _patches(request, components)],
    }
    found["kustomization.yaml"] = json.dumps(document, indent=1).encode()
    return found


def write(request: Request, root: Path, folder: Path) -> Path:
    """Write the Kustomization into *folder*, in place of what is there; readable by its owner alone.

    Args:
        root: the checkout.

    Raises:
        NotForKubernetes: see `plan`.
    """
    files = plan(request, os.path.relpath(root / KUSTOMIZE, folder))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(data)
    return folder


def _generators(files: Sequence[ServerFile], request: Request) -> dict[str, Any]:
    groups = dict(server_files.by_group(files))
    config = groups.pop(server_files.CONFIG)
    maps: list[dict[str, Any]] = [
        {
            "name": f"{NAME}-config",
            "files": [one.path for one in config],
            # What is read again while it runs keeps its name: a new name is a new pod, and ends sessions.
            **(_LIVE if all(one.live for one in config) else {}),
        },
        {
            "name": f"{NAME}-aws",
            "literals": [
                f"{name}={value}"
                for name, value in server_files.aws_environment(request.config, request.surroundings).items()
            ],
        },
    ]
    secrets: list[dict[str, Any]] = [
        {"name": f"{NAME}-{group}", "files": [one.path for one in found]} for group, found in groups.items()
    ]
    if request.tls is not None:
        # With a digest in its name: Dovecot reads it when it starts, so another one is another pod.
        secrets.append({"name": f"{NAME}-tls", "files": [f"tls/{CERTIFICATE}", f"tls/{KEY}"]})
    if TUNNEL in request.kubernetes.components:
        secrets.append({"name": f"{NAME}-tunnel", "files": ["tunnel/credentials.json"]})
        maps.append({"name": f"{NAME}-tunnel", "files": ["tunnel/config.yaml"]})
    if request.dns:
        secrets.append(
            {"name": f"{NAME}-route53", "files": [f"dns/{_KEY_ID}", f"dns/{_SECRET_KEY}"], **_LIVE}
        )
    return {"configMapGenerator": maps, "secretGenerator": secrets}


def _images(images: Sequence[Pin]) -> list[dict[str, str]]:
    # The overlay has pinned some already, under the names of a push over SSH.
    from twinmail.deploy.ssh_push import OVER_SSH

    return [
        {"name": name, "newName": one.repository, "digest": one.digest}
        for one in images
        for name in dict.fromkeys((one.name, f"{OVER_SSH.host}/{one.name}"))
    ]


def _patches(request: Request, components: Sequence[str]) -> list[dict[str, Any]]:
    where, ports = request.kubernetes, request.ports
    syncer = [
        f"--config={server_files.SETTINGS_IN_CONTAINER}/{FILE}",
        f"--server={request.server}",
        "--mail=/var/mail/twinmail",
        "--state=/var/lib/twinmail",
        "--host=0.0.0.0",
        f"--health-port={ports.health}",
        f"--tls={_CERTIFICATE}",
        f"--imaps=127.0.0.1:{ports.imaps}",
    ]
    containers: list[dict[str, Any]] = [{"name": "syncer", "args": syncer}]
    if SUBMISSION in components:
        relay = [
            f"--config={server_files.SETTINGS_IN_CONTAINER}/{FILE}",
            "--mail=/var/mail/twinmail",
            f"--secret={server_files.SECRETS_IN_CONTAINER}/{server_files.RELAY_SECRET}",
            *server_files.relay_arguments(request.config, ports, request.surroundings),
        ]
        containers.append({"name": "relay", "args": relay})
    architecture = request.config.servers[request.server].platform.partition("/")[2]
    pod = {"nodeSelector": {"kubernetes.io/arch": architecture}, "containers": containers}
    claim: dict[str, Any] = {"resources": {"requests": {"storage": f"{where.storage_gb}Gi"}}}
    patches = [
        _object("apps/v1", "Deployment", NAME, {"template": {"spec": pod}}),
        _object("v1", "PersistentVolumeClaim", f"{NAME}-mail", claim),
    ]
    if where.storage_class:
        patches += [
            _object("v1", "PersistentVolumeClaim", name, {"storageClassName": where.storage_class})
            for name in (f"{NAME}-mail", f"{NAME}-state")
        ]
    if CERT_MANAGER in components:
        names = list(certificate_names.names(request.config, request.server))
        acme: dict[str, Any] = {
            "solvers": [{"dns01": {"route53": {**_ROUTE53_SECRETS, "region": request.config.region}}}]
        }
        if request.config.operator:
            acme["email"] = request.config.operator
        patches += [
            _object("cert-manager.io/v1", "Certificate", NAME, {"dnsNames": names}),
            _object("cert-manager.io/v1", "Issuer", NAME, {"acme": acme}),
        ]
    return patches


_KEY_ID, _SECRET_KEY = "access-key-id", "secret-access-key"
_ROUTE53_SECRETS = {
    "accessKeyIDSecretRef": {"name": f"{NAME}-route53", "key": _KEY_ID},
    "secretAccessKeySecretRef": {"name": f"{NAME}-route53", "key": _SECRET_KEY},
}


def _object(version: str, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _patch(document: Mapping[str, Any]) -> dict[str, Any]:
    target = {"kind": document["kind"], "name": document["metadata"]["name"]}
    return {"target": target, "patch": json.dumps(document)}


def _dns_files(request: Request) -> dict[str, bytes]:
    try:
        found = NewKey.from_file(request.dns)
    except ValueError as error:
        raise NotForKubernetes(
            f"server {request.server}: secret certificate/{request.server}/credentials: expected an AWS "
            f"credentials file with a default profile: {error}"
        ) from error
    return {f"dns/{_KEY_ID}": found.id.encode(), f"dns/{_SECRET_KEY}": found.secret.encode()}


def _tunnel_files(request: Request) -> dict[str, bytes]:
    remedy = f"cloudflared tunnel create, then: ./inv secrets set cloudflare/{request.server} < ITS.json"
    try:
        tunnel = json.loads(request.tunnel)["TunnelID"]
    except (ValueError, TypeError, KeyError) as error:
        raise NotForKubernetes(
            f"server {request.server}: {TUNNEL} needs the credentials file of a tunnel; {remedy}"
        ) from error
    ingress: list[dict[str, str]] = [
        {"hostname": request.config.servers[request.server].host, "service": f"tcp://{NAME}:993"},
        {"service": "http_status:404"},
    ]
    document = {
        "tunnel": tunnel,
        "credentials-file": "/etc/cloudflared-secrets/credentials.json",
        "no-autoupdate": True,
        "metrics": "0.0.0.0:2000",
        "ingress": ingress,
    }
    return {
        "tunnel/config.yaml": json.dumps(document, indent=1).encode(),
        "tunnel/credentials.json": request.tunnel,
    }
