"""What is in the images, seen with testinfra from inside of their ``:debug`` variants."""

import re
import tarfile
from collections.abc import Callable

import pytest
from testinfra.host import Host

from tests.image.conftest import IMAGES as LAYOUTS
from tests.image.conftest import ExecBackend
from tests.image.dovecot import Dovecot
from twinmail.oci.spec import PLATFORMS
from twinmail.runtime.image import Image
from twinmail.tasks.config import PROJECT

IMAGES = ("base", "dovecot", "syncer", "roundcube", "certbot", "localstack")

# The only folders of an image that belong to its user.
VOLUMES = frozenset(
    {
        "/var/mail/twinmail",
        "/var/lib/twinmail",
        *(f"/var/lib/twinmail/{name}" for name in ("acme", "challenges", "tls")),
        "/var/lib/localstack",
        "/run/dovecot",
    }
)

# Of the running container and not of the image; and /root, which is empty and for root alone.
RUNTIME = r"-path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root"

Inside = Callable[[str], Host]


@pytest.fixture(params=IMAGES)
def host(request: pytest.FixtureRequest, inside: Inside) -> Host:
    return inside(request.param)


def test_one_user_without_a_shell(host: Host) -> None:
    user = host.user("twinmail")
    assert (user.uid, user.gid, user.group) == (1000, 1000, "twinmail")
    assert user.shell == "/usr/sbin/nologin"
    names = {line.split(":")[0] for line in host.check_output("cat /etc/passwd").splitlines()}
    assert names == {"root", "twinmail", "nobody"}
    assert not host.file("/etc/shadow").exists


def test_runs_as_that_user_without_capabilities(host: Host) -> None:
    assert host.check_output("id -u; id -g; id -G").split() == ["1000", "1000", "1000"]
    status = host.check_output("cat /proc/self/status")
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{kind}:\s+0+$", status, re.M), kind
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)


def test_no_set_id_programs(host: Host) -> None:
    assert host.check_output(rf"find / \( {RUNTIME} \) -prune -o -type f -perm /6000 -print") == ""


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("image", IMAGES)
def test_no_set_id_no_devices_and_only_volumes_of_the_user_in_any_layer(image: str, platform: str) -> None:
    for layer in Image.load(LAYOUTS / image, platform).layers:
        with layer.open() as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                assert not entry.mode & 0o6000, entry.name
                assert entry.isfile() or entry.isdir() or entry.issym(), entry.name
                # Of the archive, not of the running container: without root every file seems the user's.
                expected = (1000, 1000) if f"/{entry.name.strip('./')}" in VOLUMES else (0, 0)
                assert (entry.uid, entry.gid) == expected, entry.name


def test_nothing_that_everybody_may_replace(host: Host) -> None:
    assert (
        host.check_output(rf"find / \( {RUNTIME} \) -prune -o ! -type l -perm /0002 ! -perm -1000 -print")
        == ""
    )


def test_root_is_read_only(host: Host) -> None:
    for folder in ("/", "/etc", "/usr/bin", "/var/lib"):
        assert (
            "Read-only file system"
            in host.run(f"touch {folder}/x").stdout + host.run(f"touch {folder}/x").stderr
        )
    for folder in ("/run", "/tmp"):
        assert host.run(f"touch {folder}/x && rm {folder}/x").rc == 0


def test_certificate_authorities_are_one_bundle(host: Host) -> None:
    bundle = host.file("/etc/ssl/certs/ca-certificates.crt")
    assert bundle.mode == 0o644
    assert bundle.content_string.count("BEGIN CERTIFICATE") > 100
    assert host.file("/usr/lib/ssl/certs").linked_to == "/etc/ssl/certs"


def test_debian_13_in_utc(host: Host) -> None:
    assert 'VERSION_ID="13"' in host.file("/etc/os-release").content_string
    assert host.check_output("date +%Z") == "UTC"


def test_licences_are_there(host: Host) -> None:
    assert host.file("/usr/share/doc/libc6/copyright").exists
    assert host.file("/usr/share/doc/libssl3t64/copyright").exists


def test_mail_volume(inside: Inside) -> None:
    for image in ("dovecot", "syncer"):
        folder = inside(image).file("/var/mail/twinmail")
        assert folder.is_directory
        assert (folder.uid, folder.gid) == (1000, 1000)


def test_dovecot_version(inside: Inside) -> None:
    assert inside("dovecot").check_output("/usr/sbin/dovecot --version").startswith("2.4.1")


def test_dovecot_brings_no_configuration_but_ours(inside: Inside) -> None:
    host = inside("dovecot")
    rootfs = PROJECT / "images" / "dovecot" / "rootfs"
    ours = {f"/{path.relative_to(rootfs)}" for path in rootfs.rglob("*") if path.is_file()}
    assert set(host.check_output("find /etc/dovecot -type f").split()) == ours
    assert all(host.file(path).mode == 0o644 for path in ours)
    text = host.file("/etc/dovecot/dovecot.conf").content_string
    statements = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert statements[0] == "dovecot_config_version = 2.4.1"
    assert statements[-1] == "!include_try /etc/twinmail/local.conf"


def test_dovecot_listens_on_loopback_as_told_and_nowhere_else(debug_dovecot: Dovecot) -> None:
    host = Host(ExecBackend(debug_dovecot.container))
    ours = socket_inodes(host)
    listening = [
        fields[1]
        for path in ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6")
        for fields in map(str.split, host.check_output(f"cat {path} 2>/dev/null || true").splitlines()[1:])
        if fields[9] in ours and (fields[3] == "0A" or "udp" in path)
    ]
    told = {debug_dovecot.port, debug_dovecot.sieve}
    assert set(listening) == {f"0100007F:{port:04X}" for port in told}


def test_dovecot_processes_are_one_user_without_roots_of_their_own(debug_dovecot: Dovecot) -> None:
    host = Host(ExecBackend(debug_dovecot.container))
    lines = host.check_output("cat /proc/[0-9]*/status").splitlines()
    assert {line.split()[1] for line in lines if line.startswith("Uid:")} == {"1000"}
    assert {line.split()[1] for line in lines if line.startswith("CapEff:")} == {"0" * 16}
    roots = host.check_output("for one in /proc/[0-9]*; do readlink $one/root; done; true").split()
    assert set(roots) == {"/"}
    names = {line.split()[1] for line in lines if line.startswith("Name:")}
    assert {"dovecot", "imap-login", "auth", "anvil", "log", "config", "stats"} <= names


def test_dovecot_sockets_are_in_its_own_memory(debug_dovecot: Dovecot) -> None:
    """All but those that the syncer uses, whose container shares the volume alone."""
    host = Host(ExecBackend(debug_dovecot.container))
    found = host.check_output("find /run /tmp /var /etc -type s").split()
    shared = {path for path in found if not path.startswith("/run/dovecot/")}
    assert len(found) > len(shared) >= 1
    for path in shared:
        assert path.startswith("/var/mail/twinmail/.server/")
        assert host.file(path).mode == 0o600 and host.file(path).uid == 1000


def test_dovecot_memory_fits_a_small_machine(debug_dovecot: Dovecot) -> None:
    host = Host(ExecBackend(debug_dovecot.container))
    lines = host.check_output("cat /proc/[0-9]*/status").splitlines()
    resident = sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
    assert resident < 64 * 1024, f"{resident} KiB"


def test_syncer_python(inside: Inside) -> None:
    host = inside("syncer")
    assert host.check_output("/usr/bin/python3 --version").startswith("Python 3.13.")
    assert host.run("/usr/bin/python3 -c 'import twinmail.sync, boto3, obstore'").rc == 0
    assert host.run("/usr/bin/python3 -c 'import twinmail.tasks'").rc != 0


def socket_inodes(host: Host) -> set[str]:
    """Inodes of the sockets of the container's processes; /proc/net shows the whole machine's."""
    links = host.check_output("for one in /proc/[0-9]*/fd/*; do readlink $one; done; true").split()
    return {match[1] for match in (re.fullmatch(r"socket:\[(\d+)\]", link) for link in links) if match}
