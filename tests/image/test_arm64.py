"""The linux/arm64 images start and serve; on an x86-64 machine qemu's user emulation runs them.

CI installs ``qemu-user-static``. A machine without it says so and tests the images of its own platform only.
"""

import hashlib
from collections.abc import Iterator

import pytest

from tests.image.conftest import IMAGES
from tests.image.dovecot import PASSWORD, Dovecot
from tests.image.roundcube import Roundcube, client
from twinmail.imap import find_message, session
from twinmail.runtime.interface import ContainerSpec, Exited, Runtime, RuntimeUnavailable

PLATFORM = "linux/arm64"


@pytest.fixture(scope="module")
def emulated(runtime: Runtime) -> Runtime:
    try:
        runtime.ensure_emulation(PLATFORM)
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    return runtime


@pytest.fixture(scope="module")
def arm_dovecot(emulated: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    server = Dovecot(emulated, IMAGES / "dovecot", PLATFORM, tmp_path_factory.mktemp("arm-dovecot"))
    try:
        yield server.start("arm-dovecot")
    finally:
        server.stop()


def test_dovecot_serves(arm_dovecot: Dovecot) -> None:
    data = b"Message-ID: <arm@example.com>\r\n\r\nhello\r\n"
    base = f"1700000000.{hashlib.sha256(data).hexdigest()[:32]}.twinmail,S={len(data)},W={len(data)}"
    arm_dovecot.store("ann", base, data)
    uid = find_message(arm_dovecot.account("ann"), "<arm@example.com>", 120)
    with session(arm_dovecot.account("ann"), timeout=120) as client:
        client.select("INBOX", readonly=True)
        assert client.uid("FETCH", uid, "(BODY.PEEK[])")[1][0][1] == data
        assert client.select("Junk")[0] == "OK"


def test_dovecot_is_healthy(arm_dovecot: Dovecot) -> None:
    result = arm_dovecot.container.exec(["/usr/bin/doveadm", "service", "status", "imap-login"], timeout=120)
    assert result.code == 0, result.output


def test_webmail_serves(
    emulated: Runtime, arm_dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("arm-roundcube")
    server = Roundcube(emulated, IMAGES / "roundcube", PLATFORM, folder, arm_dovecot)
    try:
        assert "task-mail" in client(server.start("arm-roundcube")).log_in("bob", PASSWORD).text
    finally:
        server.stop()


def test_syncer_starts(emulated: Runtime) -> None:
    container = emulated.start(
        ContainerSpec(name="arm-syncer", layout=IMAGES / "syncer", platform=PLATFORM, command=("--help",))
    )
    try:
        assert container.wait(300) == Exited(0), container.logs().decode()
        assert b"--server" in container.logs()
    finally:
        container.stop()


def test_syncer_is_for_this_platform(emulated: Runtime) -> None:
    program = "import platform, boto3, obstore.store, twinmail.sync; print(platform.machine())"
    container = emulated.start(
        ContainerSpec(
            name="arm-python",
            layout=IMAGES / "syncer",
            platform=PLATFORM,
            entrypoint=("/usr/bin/tini", "--", "/usr/bin/python3", "-c", program),
        )
    )
    try:
        assert container.wait(300) == Exited(0), container.logs().decode()
        assert container.logs().strip() == b"aarch64"
    finally:
        container.stop()
