"""Logging in at a real registry: Basic, token server and TLS, with what ``docker login`` has written."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy import layered_image
from tests.deploy.registry_process import RegistryProcess, run_registry
from tests.deploy.token_server import TokenServer, run_token_server
from twinmail.local import pki
from twinmail.oci.push import ImagePush

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "tests" / "deploy" / "push_process.py"
USER, PASSWORD = "ann", "a-Secret:with-colon"
# bcrypt, the only one that the registry takes, of the password above.
HTPASSWD = "$2b$06$LaoB/PH38rxBTq8VFYLLverLUWoXi.tBxDTqnllRe4JsOhRCb93gG"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImagePush]:
    folder = tmp_path_factory.mktemp("images")
    return [
        layered_image.build(folder, "one", {"shared": 1000, "one": 10}),
        layered_image.build(folder, "two", {"shared": 1000, "two": 10}),
    ]


@pytest.fixture(scope="module")
def basic(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("basic")
    (folder / "htpasswd").write_text(f"{USER}:{HTPASSWD}\n")
    auth = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    with run_registry(tool("docker-registry"), folder, auth) as process:
        yield process


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with run_token_server(tmp_path_factory.mktemp("tokens"), USER, PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def bearer(
    tool: Callable[[str], Path], tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryProcess]:
    with run_registry(tool("docker-registry"), tmp_path_factory.mktemp("bearer"), tokens.auth()) as process:
        yield process


def log_in(home: Path, host: str, password: str = PASSWORD) -> None:
    """Leave what ``docker login`` leaves."""
    (home / ".docker").mkdir(exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def run_push(
    home: Path, destination: str, images: list[ImagePush], **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, DRIVER, home / "state", destination, *(one.folder for one in images)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
            "HOME": str(home),
            **environment,
        },
    )


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_push_with_the_right_password(
    kind: str, request: pytest.FixtureRequest, images: list[ImagePush], tmp_path: Path
) -> None:
    registry: RegistryProcess = request.getfixturevalue(kind)
    log_in(tmp_path, registry.host)
    done = run_push(tmp_path, f"{registry.host}/mail", images)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mounted"] == 1
    assert PASSWORD not in done.stdout + done.stderr
    again = run_push(tmp_path, f"{registry.host}/mail", images)
    assert json.loads(again.stdout)["uploaded"] == 0


def test_token_is_asked_for_what_a_push_needs(
    bearer: RegistryProcess, tokens: TokenServer, images: list[ImagePush], tmp_path: Path
) -> None:
    log_in(tmp_path, bearer.host)
    tokens.asked.clear()
    assert run_push(tmp_path, f"{bearer.host}/scopes", images).returncode == 0
    assert {user for user, _ in tokens.asked} == {USER}
    assert set(tokens.asked) == {
        (USER, ("repository:scopes/one:pull,push",)),
        (USER, ("repository:scopes/two:pull,push",)),
        (USER, ("repository:scopes/two:pull,push", "repository:scopes/one:pull")),
    }


@pytest.mark.parametrize("kind", ["basic", "bearer"])
@pytest.mark.parametrize("known", [True, False])
def test_push_without_the_right_password(
    kind: str, known: bool, request: pytest.FixtureRequest, images: list[ImagePush], tmp_path: Path
) -> None:
    registry: RegistryProcess = request.getfixturevalue(kind)
    if known:
        log_in(tmp_path, registry.host, "another")
    done = run_push(tmp_path, f"{registry.host}/refused", images)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"{registry.host}: ")
    assert f"docker login {registry.host}" in line
    assert "Traceback" not in done.stderr and "another" not in done.stderr


def test_damaged_login_is_said(basic: RegistryProcess, images: list[ImagePush], tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text("{")
    done = run_push(tmp_path, basic.host, images)
    assert done.returncode == 1
    assert f"{tmp_path}/.docker/config.json: not JSON" in done.stderr


def test_tls_is_checked(tool: Callable[[str], Path], images: list[ImagePush], tmp_path: Path) -> None:
    pki.ensure(tmp_path / "ca", tmp_path / "server", ["localhost"])
    tls = {
        "certificate": str(tmp_path / "server" / pki.CERTIFICATE),
        "key": str(tmp_path / "server" / pki.KEY),
    }
    with run_registry(tool("docker-registry"), tmp_path / "tls", tls=tls) as registry:
        destination = f"https://localhost:{registry.port}/tls"
        done = run_push(tmp_path, destination, images)
        assert done.returncode == 1
        assert "certificate verify failed" in done.stderr
        done = run_push(tmp_path, destination, images, SSL_CERT_FILE=str(tmp_path / "ca" / pki.CA))
        assert done.returncode == 0, done.stderr
