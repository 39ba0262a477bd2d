"""One LocalStack for all tests of a runtime, in its image."""

from collections.abc import Iterator

import pytest

from tests.cloud import CONFIG, TOML
from tests.contract.deployed import Deployed
from tests.localstack_process import LocalStackProcess
from twinmail.local.deployment import deploy
from twinmail.runtime.interface import Runtime
from twinmail.runtime.select import choose


@pytest.fixture(scope="session")
def runtime(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The runtime that the command line names; by default the one that this machine would use."""
    name = pytestconfig.getoption("--runtime")
    runtime = choose(None if name == "all" else name, tmp_path_factory.mktemp("containers"))
    yield runtime
    assert not runtime.remove_leftovers()


@pytest.fixture(scope="session")
def localstack(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStackProcess]:
    """A LocalStack that was empty when the tests began."""
    process = LocalStackProcess(runtime, tmp_path_factory.mktemp("localstack"))
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture(scope="session")
def endpoint(localstack: LocalStackProcess) -> str:
    """The URL of that LocalStack."""
    return localstack.endpoint


@pytest.fixture(scope="session")
def deployed(localstack: LocalStackProcess, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The cloud stack of the tests' configuration on that LocalStack."""
    from localstack_client.session import Session

    config_file = tmp_path_factory.mktemp("stack") / "twinmail.toml"
    config_file.write_text(TOML)
    session = Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name=CONFIG.region,
        localstack_host=f"127.0.0.1:{localstack.port}",
    )
    deploy(CONFIG, config_file, session, print)
    return Deployed(CONFIG, session)
