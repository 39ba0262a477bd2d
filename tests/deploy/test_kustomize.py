"""What the cluster is told: built by both tools, valid to the letter, restricted, bounded and pinned."""

import base64
import copy
import json
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.pod_security import violations
from twinmail.config import Config
from twinmail.deploy import kustomization, pins
from twinmail.deploy.kustomization import NotForKubernetes, Request, Tls
from twinmail.deploy.server_files import ServerSecrets
from twinmail.oci.destination import Destination
from twinmail.oci.digests import Digests
from twinmail.production import COMPONENTS, Kubernetes

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("local", "picluster")
# What the project's kubectl is of, and the newest that the schemas have.
VERSIONS = ("1.32", "1.37")
# Kinds of operators, for which Kubernetes has no schemas: by kind, one of what stands under `spec`.
OPERATORS = yaml.safe_load((ROOT / "tests" / "deploy" / "operator_kinds.yaml").read_text())
DEFINITIONS = OPERATORS.pop("$defs")
TEXT = (ROOT / "twinmail.toml").read_text()
SECRETS = ServerSecrets(
    syncer=b"[default]\naws_access_key_id = syncer\n",
    relay="the password between Dovecot and the relay",
    relay_credentials=b"[default]\naws_access_key_id = relay\n",
)
DNS = b"[default]\naws_access_key_id = AKIADNS\naws_secret_access_key = dns-secret\n"

Tool = Callable[[str], Path]
Documents = Sequence[Mapping[str, Any]]


def request(components: tuple[str, ...] = (), submission: bool = False, **fields: Any) -> Request:
    """A request for the primary of the example configuration."""
    config = Config.parse(TEXT)
    where = replace(config.servers["primary"].kubernetes or Kubernetes(), components=components)
    server = replace(config.servers["primary"], kubernetes=where, submission=submission)
    managed = "cert-manager" in components
    wanted = Request(
        config=replace(config, servers={**config.servers, "primary": server}),
        text=TEXT,
        server="primary",
        secrets=SECRETS,
        images=pins.pins(pins.pinned(Digests.load(ROOT), "linux/arm64")),
        tls=None if managed else Tls(b"the chain", b"the key"),
        tunnel=b'{"TunnelID": "0b6f"}' if "cloudflare-tunnel" in components else b"",
        dns=DNS if managed else b"",
    )
    return replace(wanted, **fields)


def build(tool: Tool, folder: Path) -> Documents:
    """The documents of *folder*, which both programs must render alike."""
    texts = [
        subprocess.run([tool(name), verb, folder], capture_output=True, text=True, check=False)
        for name, verb in (("kustomize", "build"), ("kubectl", "kustomize"))
    ]
    assert [(one.returncode, one.stderr) for one in texts] == [(0, ""), (0, "")]
    assert texts[0].stdout == texts[1].stdout
    return list(yaml.safe_load_all(texts[0].stdout))


def pods(documents: Documents) -> dict[str, Any]:
    """Specs of the pods, by the name of their deployment."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in documents
        if one["kind"] == "Deployment"
    }


def one(documents: Documents, kind: str, name: str = "twinmail") -> Any:
    """The object of *kind* and *name*, which may have a digest at its end."""
    found = [
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"].startswith(name)
    ]
    return min(found, key=lambda document: len(document["metadata"]["name"]))


@pytest.fixture(scope="module")
def built(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Documents]:
    """``built("picluster", ("sieve",), submission=True)``: the documents of such a server, built once."""

    @cache
    def documents(overlay: str, components: tuple[str, ...] = (), submission: bool = False) -> Documents:
        wanted = request(components, submission, overlay=overlay)
        return build(tool, kustomization.write(wanted, ROOT, tmp_path_factory.mktemp("built") / "k"))

    return documents


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_in_git_builds_as_it_is(tool: Tool, overlay: str) -> None:
    documents = build(tool, ROOT / "k8s" / "kustomize" / "overlays" / overlay)
    assert {one["kind"] for one in documents} == {
        *("Namespace", "Deployment", "Service", "PersistentVolumeClaim"),
        *("PodDisruptionBudget", "NetworkPolicy"),
    }
    platform = {"local": "linux/amd64", "picluster": "linux/arm64"}[overlay]
    assert images(pods(documents)) == set(pinned(platform).values())


def pinned(platform: str, registry: str = "127.0.0.1:27149/twinmail") -> dict[str, str]:
    """References of the pod's images, as images/digests.json has them."""
    digests = json.loads((ROOT / "images" / "digests.json").read_text())
    return {
        name: f"{registry}/{name}@{digests[name][platform]['manifest']}" for name in ("dovecot", "syncer")
    }


def images(specs: Mapping[str, Any]) -> set[str]:
    """Every image of *specs*."""
    return {
        container["image"]
        for pod in specs.values()
        for container in (*pod["containers"], *pod.get("initContainers", ()))
    }


def test_the_committed_pins_are_the_committed_digests() -> None:
    for path, content in pins.files(Digests.load(ROOT)).items():
        assert (ROOT / path).read_text() == content, f'{path}: run "./inv build --pin" and commit it'


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(("components", "submission"), [((), False), (COMPONENTS, True)])
def test_every_object_is_valid_to_the_letter(
    built: Callable[..., Documents], overlay: str, version: str, components: tuple[str, ...], submission: bool
) -> None:
    documents = built(overlay, components, submission)
    kinds = {one["kind"] for one in documents}
    assert kinds & OPERATORS.keys() == (OPERATORS.keys() if components else set())
    for document in documents:
        if document["kind"] in OPERATORS:
            jsonschema.validate(document["spec"], spec_schema(document["kind"]))
            assert document.keys() == {"apiVersion", "kind", "metadata", "spec"}
        else:
            kubernetes_validate.validate(document, version, strict=True)


def spec_schema(kind: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "$defs": DEFINITIONS, **OPERATORS[kind]}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Certificate", ("renewbefore",), "720h"),
        ("Issuer", ("acme", "solvers", 0, "dns01", "route53", "accessKeyIDSecretRef"), {"name": "x"}),
        ("ServiceMonitor", ("endpoints", 0, "interval"), 60),
    ],
)
def test_a_wrong_word_for_an_operator_would_be_noticed(
    built: Callable[..., Documents], kind: str, path: tuple[str | int, ...], value: object
) -> None:
    node = spec = copy.deepcopy(one(built("picluster", COMPONENTS), kind)["spec"])
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, spec_schema(kind))


def test_a_wrong_word_would_be_noticed(built: Callable[..., Documents]) -> None:
    document = copy.deepcopy(one(built("picluster"), "Deployment"))
    document["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.32", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_restricted(built: Callable[..., Documents], overlay: str) -> None:
    documents = built(overlay, COMPONENTS, True)
    specs = pods(documents)
    assert set(specs) == {"twinmail", "twinmail-tunnel"}
    assert {name: list(violations(pod)) for name, pod in specs.items()} == {
        "twinmail": [],
        "twinmail-tunnel": [],
    }
    for pod in specs.values():
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert specs["twinmail"]["securityContext"]["runAsUser"] == 1000
    labels = one(documents, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_check_of_pods_notices_each_break(built: Callable[..., Documents]) -> None:
    pod = copy.deepcopy(pods(built("picluster"))["twinmail"])
    pod["hostNetwork"] = True
    pod["volumes"].append({"name": "disk", "hostPath": {"path": "/"}})
    del pod["securityContext"]["seccompProfile"]
    dovecot = next(box for box in pod["containers"] if box["name"] == "dovecot")
    context = dovecot["securityContext"]
    context |= {"allowPrivilegeEscalation": True, "runAsNonRoot": False, "capabilities": {}}
    assert set(violations(pod)) == {
        "hostNetwork is on",
        "volume disk: hostPath",
        "volume: has no seccomp profile",
        "dovecot: may gain privileges",
        "dovecot: keeps capabilities",
        "dovecot: may run as root",
        "dovecot: has no seccomp profile",
        "syncer: has no seccomp profile",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_watched_and_bounded(built: Callable[..., Documents], overlay: str) -> None:
    requested = 0
    for name, pod in pods(built(overlay, COMPONENTS, True)).items():
        for container in pod["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert probe in container, f"{name}/{container['name']}: no {probe}"
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
        requested += sum(
            int(container["resources"]["requests"]["memory"].removesuffix("Mi"))
            for container in pod["containers"]
        )
    # A Raspberry Pi has 2 GB, and runs Kubernetes itself.
    assert requested <= 384


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_image_is_named_by_digest(built: Callable[..., Documents], overlay: str) -> None:
    found = images(pods(built(overlay, COMPONENTS, True)))
    tunnel = {reference for reference in found if reference.startswith("cloudflare/cloudflared@sha256:")}
    assert len(tunnel) == 1
    assert found - tunnel == set(pinned("linux/arm64").values())


def test_images_may_come_from_a_registry(tool: Tool, tmp_path: Path) -> None:
    destination = Destination.parse("registry.example.org/ann")
    entries = pins.pins(pins.pinned(Digests.load(ROOT), "linux/arm64"), destination)
    wanted = request(("cert-manager",), True, images=entries)
    found = images(pods(build(tool, kustomization.write(wanted, ROOT, tmp_path / "k"))))
    assert found == set(pinned("linux/arm64", "registry.example.org/ann").values())


def test_clients_keep_their_addresses_and_reach_imap_only(built: Callable[..., Documents]) -> None:
    service = one(built("picluster"), "Service")["spec"]
    assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    assert [port["port"] for port in service["ports"]] == [993]
    policies = {
        document["metadata"]["name"]: document["spec"]
        for document in built("picluster")
        if document["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    server = policies["twinmail"]
    assert server["ingress"] == [{"ports": [{"port": "imaps", "protocol": "TCP"}]}]
    out = [sorted({port["port"] for port in rule["ports"]}) for rule in server["egress"]]
    assert out == [[53], [443, 465]]
    assert server["policyTypes"] == ["Ingress", "Egress"]
    assert server["egress"][0]["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    ]
    assert server["egress"][1]["to"] == [
        {
            "ipBlock": {
                "cidr": "0.0.0.0/0",
                # "This" network, private ones, shared by carriers, loopback, link-local, and multicast (RFC 6890).
                "except": [
                    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
                    *("169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
                ],
            }
        },
        {"ipBlock": {"cidr": "2000::/3"}},
    ]


def test_what_chooses_pods_chooses_ours(built: Callable[..., Documents]) -> None:
    documents = built("picluster", COMPONENTS, True)
    labels = {
        document["metadata"]["name"]: document["spec"]["template"]["metadata"]["labels"]
        for document in documents
        if document["kind"] == "Deployment"
    }
    chosen = [
        one(documents, "Service")["spec"]["selector"],
        one(documents, "Service", "twinmail-metrics")["spec"]["selector"],
        one(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in chosen:
        assert selector and selector.items() <= labels["twinmail"].items()
        assert not selector.items() <= labels["twinmail-tunnel"].items()
    tunnel = one(documents, "NetworkPolicy", "twinmail-tunnel")["spec"]
    selector = tunnel["podSelector"]["matchLabels"]
    assert selector and selector.items() <= labels["twinmail-tunnel"].items()
    (inside,) = tunnel["egress"][2]["to"]
    assert inside["podSelector"]["matchLabels"].items() <= labels["twinmail"].items()
    metrics = one(documents, "Service", "twinmail-metrics")
    monitor = one(documents, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= metrics["metadata"]["labels"].items()
    assert {each["port"] for each in monitor["endpoints"]} == {
        each["name"] for each in metrics["spec"]["ports"]
    }


def test_every_port_leads_to_a_container(built: Callable[..., Documents]) -> None:
    documents = built("picluster", COMPONENTS, True)
    ports = {
        port["name"]: port["containerPort"]
        for box in pods(documents)["twinmail"]["containers"]
        for port in box.get("ports", ())
    }
    assert (ports["imaps"], ports["submissions"], ports["metrics"]) == (10993, 10465, 8080)
    for name in ("twinmail", "twinmail-metrics"):
        assert {
            each["targetPort"] for each in one(documents, "Service", name)["spec"]["ports"]
        } <= ports.keys()
    settings = next(
        document["data"]["config.yaml"]
        for document in documents
        if document["kind"] == "ConfigMap" and "config.yaml" in document["data"]
    )
    assert yaml.safe_load(settings)["ingress"][0] == {
        "hostname": "primary.pfeiffer.rocks",
        "service": "tcp://twinmail:993",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_syncer_has_every_option_that_is_in_git(
    built: Callable[..., Documents], tool: Tool, overlay: str
) -> None:
    def syncer(documents: Documents) -> Any:
        return next(box for box in pods(documents)["twinmail"]["containers"] if box["name"] == "syncer")

    def options(box: Any) -> set[str]:
        return {word.partition("=")[0] for word in box["args"]}

    own = syncer(built(overlay))
    assert options(syncer(build(tool, ROOT / "k8s" / "kustomize" / "overlays" / overlay))) <= options(own)
    where = {mount["name"]: mount["mountPath"] for mount in own["volumeMounts"]}["certificate"]
    # Else nobody has Dovecot read a renewed certificate, and nobody says that one ends.
    assert {f"--tls={where}", "--imaps=127.0.0.1:10993"} <= set(own["args"])


def test_what_is_on_is_let_in_and_nothing_else(built: Callable[..., Documents]) -> None:
    documents = built("picluster", ("service-monitor", "sieve", "cert-manager"), True)
    assert [port["port"] for port in one(documents, "Service")["spec"]["ports"]] == [993, 465, 4190]
    ingress = one(documents, "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in ingress[0]["ports"]] == ["imaps", "submissions", "sieves"]
    assert ingress[1]["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    names = {
        port["name"] for box in pods(documents)["twinmail"]["containers"] for port in box.get("ports", ())
    }
    assert names == {"imaps", "submissions", "sieves", "metrics"}


def test_only_the_pod_of_the_right_platform_runs_and_never_two(built: Callable[..., Documents]) -> None:
    documents = built("picluster")
    deployment = one(documents, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert pods(documents)["twinmail"]["nodeSelector"]["kubernetes.io/arch"] == "arm64"
    assert one(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_each_container_sees_its_own_secrets_only(built: Callable[..., Documents]) -> None:
    documents = built("picluster", (), True)
    pod = pods(documents)["twinmail"]
    content = {
        document["metadata"]["name"]: sorted(document["data"])
        for document in documents
        if document["kind"] == "Secret"
    }
    # A volume may show only some of its Secret.
    shown = {
        volume["name"]: [item["path"] for item in volume["secret"].get("items", ())]
        or content[volume["secret"]["secretName"]]
        for volume in pod["volumes"]
        if "secret" in volume
    }
    seen = {
        box["name"]: sorted({mount["name"] for mount in box["volumeMounts"] if mount["name"] in shown})
        for box in (*pod["containers"], *pod["initContainers"])
    }
    assert {name: [shown[one] for one in names] for name, names in seen.items()} == {
        "dovecot": [["local.conf"], ["cert.pem", "key.pem"]],
        "syncer": [["cert.pem"], ["credentials"]],
        "relay": [["credentials", "relay-secret"]],
        "volume": [],
    }


def test_no_secret_is_in_an_environment_or_a_config_map(built: Callable[..., Documents]) -> None:
    documents = built("picluster", COMPONENTS, True)
    for pod in pods(documents).values():
        for box in pod["containers"]:
            assert "env" not in box
            assert all("configMapRef" in source for source in box.get("envFrom", ()))
    maps = json.dumps([document for document in documents if document["kind"] == "ConfigMap"])
    for secret in (SECRETS.relay, "dns-secret", "aws_access_key_id"):
        assert secret not in maps
    values = {
        base64.b64decode(value)
        for document in documents
        if document["kind"] == "Secret"
        for value in document["data"].values()
    }
    assert {b"dns-secret", SECRETS.syncer, SECRETS.relay.encode()} <= values


def test_the_configuration_changes_under_a_running_pod_and_nothing_else_does(
    built: Callable[..., Documents],
) -> None:
    documents = built("picluster", (), True)
    names = {one["metadata"]["name"] for one in documents if one["kind"] in ("ConfigMap", "Secret")}
    assert "twinmail-config" in names
    # The others have a digest in their name: when they change, there is a new pod.
    others = {f"twinmail-{name}" for name in ("dovecot", "syncer", "relay", "aws", "tls")}
    assert not others & names


def test_cert_manager_gets_the_certificate_that_dovecot_reads(built: Callable[..., Documents]) -> None:
    documents = built("picluster", ("cert-manager",))
    certificate = one(documents, "Certificate")["spec"]
    assert certificate["dnsNames"] == ["primary.pfeiffer.rocks"]
    # A share of its life: one of 90 days lives as long as the authority likes.
    assert certificate["renewBeforePercentage"] == 33
    assert not {"duration", "renewBefore"} & certificate.keys()
    volume = next(one for one in pods(documents)["twinmail"]["volumes"] if one["name"] == "tls")
    assert volume["secret"]["secretName"] == certificate["secretName"] == "twinmail-tls"
    assert {item["key"]: item["path"] for item in volume["secret"]["items"]} == {
        "tls.crt": "cert.pem",
        "tls.key": "key.pem",
    }
    assert not [
        one for one in documents if one["kind"] == "Secret" and one["metadata"]["name"] == "twinmail-tls"
    ]
    issuer = one(documents, "Issuer")["spec"]["acme"]
    assert issuer["email"] == "rene@pfeiffer.rocks"
    keys = issuer["solvers"][0]["dns01"]["route53"]
    secret = one(documents, "Secret", "twinmail-route53")
    for reference in (keys["accessKeyIDSecretRef"], keys["secretAccessKeySecretRef"]):
        assert reference["name"] == secret["metadata"]["name"]
        assert reference["key"] in secret["data"]


def test_the_configuration_says_where_and_how_large(tool: Tool, tmp_path: Path) -> None:
    wanted = request()
    where = Kubernetes(namespace="mail", storage_class="nvme", storage_gb=70)
    server = replace(wanted.config.servers["primary"], kubernetes=where)
    config = replace(wanted.config, servers={**wanted.config.servers, "primary": server})
    documents = build(tool, kustomization.write(replace(wanted, config=config), ROOT, tmp_path / "k"))
    assert one(documents, "Namespace", "")["metadata"]["name"] == "mail"
    assert {one["metadata"].get("namespace", "mail") for one in documents} == {"mail"}
    claim = one(documents, "PersistentVolumeClaim", "twinmail-mail")["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("nvme", "70Gi")


def test_nobody_else_reads_the_folder(tmp_path: Path) -> None:
    folder = kustomization.write(request((), True), ROOT, tmp_path / "k")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    (folder / "left-over").write_text("of an earlier plan")
    kustomization.write(request(), ROOT, folder)
    assert not (folder / "left-over").exists()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            request(tls=None),
            "server primary: no certificate; add 'cert-manager' to servers.primary.kubernetes.components, or "
            "bring one: cat cert.pem key.pem | ./inv secrets set tls/primary/key.pem",
        ),
        (
            request(("cloudflare-tunnel",), tunnel=b""),
            "server primary: cloudflare-tunnel needs the credentials file of a tunnel; cloudflared tunnel "
            "create, then: ./inv secrets set cloudflare/primary < ITS.json",
        ),
    ],
)
def test_what_is_missing_is_said_with_the_remedy(wanted: Request, message: str) -> None:
    with pytest.raises(NotForKubernetes) as caught:
        kustomization.plan(wanted, "..")
    assert str(caught.value) == message


def test_webmail_belongs_on_another_server() -> None:
    config = Config.parse(TEXT)
    server = replace(config.servers["primary"], webmail=True)
    wanted = replace(request(), config=replace(config, servers={**config.servers, "primary": server}))
    with pytest.raises(NotForKubernetes, match="webmail is not built for Kubernetes"):
        kustomization.plan(wanted, "..")
