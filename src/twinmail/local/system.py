"""The running local system: starts the containers in order, waits until each is ready, stops them again."""

import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinmail import durable_file, imap
from twinmail.account_store import S3AccountStore
from twinmail.config import FILE, Config
from twinmail.errors import PermanentError, TransientError
from twinmail.local import access_keys, accounts, cloud, deployment, dovecot, pki, relay, services, webmail
from twinmail.local.interruption import uninterrupted
from twinmail.local.readiness import greets, http_ok, knows_accounts
from twinmail.local.state import LOOPBACK, Description, Ports, State, choose_ports
from twinmail.runtime.interface import Container, ContainerSpec, Exited, Mount, Runtime

Say = Callable[[str], None]

READY_SECONDS = 60.0

_ENDPOINT = re.compile(r"http://[A-Za-z0-9.-]+:[0-9]{1,5}/?")


class NotReady(TransientError):
    """A service did not become ready in time, or ended; the text holds the end of its log."""


class LocalSystem:
    """LocalStack, the SES edge and the mail servers of one state folder.

    Attributes:
        containers: what runs, by container name.
        localstack_options, endpoints: extra options of LocalStack, and the proxy before it that a container
            takes for it, by the container's name; set before the start.
        ports: where it listens.
        endpoint: URL of LocalStack, ours or the user's.
    """

    def __init__(
        self,
        state: State,
        config_file: Path,
        runtime: Runtime,
        platform: str,
        *,
        say: Say = lambda text: None,
        endpoint: str | None = None,
        ephemeral_ports: bool = False,
        syncer_options: Sequence[str] = (),
        record: bool = False,
    ) -> None:
        if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
            raise PermanentError(f"--endpoint: expected http://HOST:PORT, got {endpoint!r}")
        self.state = state
        self.config_file = config_file
        self.config = Config.load(config_file)
        self.runtime = runtime
        self.platform = platform
        self.syncer_options = tuple(syncer_options)
        # Recorded is every call, in LocalStack's state folder.
        self.localstack_options: Sequence[str] = ("--record",) if record else ()
        self.endpoints: Mapping[str, str] = {}
        self.containers: dict[str, Container] = {}
        self._say = say
        runtime.remove_leftovers()
        before = Description.load(state)
        self.ports: Ports = choose_ports(self.config, before.ports if before else {}, ephemeral_ports)
        self._own_localstack = endpoint is None
        self.endpoint = endpoint or f"http://{LOOPBACK}:{self.ports['localstack']}"

    # Starting and stopping

    def start(self) -> None:
        """Start everything and return when every part is ready.

        Raises:
            NotReady: a part did not become ready.
            TwinmailError: a container or the stack could not be made.
        """
        self._prepare()
        self.start_localstack()
        for server in self.config.servers:
            self.start_dovecot(server)
        self.wait_for_localstack()
        self.deploy()
        self.start_edge()
        for server in self.config.servers:
            self.start_syncer(server)
        for server in self.webmails:
            self.start_webmail(server)
        self.wait_for_edge()
        for server in self.config.servers:
            self.wait_for_dovecot(server)
            self.wait_for_syncer(server)
        for server in self.relays:
            self.start_relay(server)
        for server in self.relays:
            self.wait_for_relay(server)
        for server in self.webmails:
            self.wait_for_webmail(server)
        self.describe().save(self.state)

    def start_cloud(self) -> None:
        """Start LocalStack alone, with nothing deployed; raises as `start` does."""
        self._prepare()
        self.start_localstack()
        self.wait_for_localstack()

    def stop(self) -> None:
        """Stop everything, LocalStack last, so that nobody misses it on the way; state folders stay."""
        clients = [name for name in self.containers if name != "localstack"]
        with uninterrupted(), ThreadPoolExecutor(max(1, len(clients))) as pool:
            for _ in pool.map(self.stop_container, clients):
                pass
            self.stop_container("localstack")

    def start_localstack(self) -> None:
        """Start LocalStack, unless the user brought one."""
        if self._own_localstack:
            self._say("starting LocalStack")
            spec = services.localstack(self.state, self.config, self.ports, self.platform)
            self._start(replace(spec, command=(*(spec.command or ()), *self.localstack_options)))

    def wait_for_localstack(self) -> None:
        """Wait until LocalStack answers."""
        address = self.endpoint.removeprefix("http://").removeprefix("https://").rstrip("/")
        self._wait("localstack", lambda: http_ok(address, "/_localstack/health"))

    def deploy(self) -> None:
        """Bring the cloud stack to what the template and the configuration say, with an account a mailbox."""
        self._say("deploying the cloud stack")
        # As the file is now: LocalStack may be restarted long after the system was started.
        config = Config.load(self.config_file)
        session = self.session()
        deployment.deploy(config, self.config_file, session, self._say)
        accounts.publish(self.state, config, S3AccountStore(session.client("s3"), config.bucket))

    def start_edge(self) -> None:
        """Start the SES edge."""
        self._say("starting the SES edge")
        endpoint = self.endpoints.get("edge", self.endpoint)
        self._start(services.edge(self.state, self.config, self.ports, self.platform, endpoint))

    def wait_for_edge(self) -> None:
        """Wait until the SES edge greets."""
        self._wait("edge", lambda: greets(self.ports["edge"], b"220"))

    def start_dovecot(self, server: str) -> None:
        """Start the IMAP server of *server*."""
        self._say(f"starting Dovecot on {server}")
        self._start(services.dovecot(self.state, server, self.platform))

    def wait_for_dovecot(self, server: str) -> None:
        """Wait until Dovecot of *server* greets."""
        port, tls = self.ports[f"{server}-imaps"], pki.client_context(self.ca)
        self._wait(f"{server}-dovecot", lambda: imap.greets(LOOPBACK, port, tls))

    def start_syncer(self, server: str, *options: str) -> None:
        """Start the syncer of *server*, with extra command line *options*."""
        self._say(f"starting the syncer on {server}")
        spec = services.syncer(
            self.state,
            self.config,
            self.ports,
            server,
            self.platform,
            self.endpoints.get(f"{server}-syncer", self.endpoint),
            (*self.syncer_options, *options),
        )
        self._start(self._acting_as(self.config.syncer_user(server), spec))

    def wait_for_syncer(self, server: str) -> None:
        """Wait until the syncer of *server* has looked at the log once, and at the accounts."""
        address = f"{LOOPBACK}:{self.ports[f'{server}-health']}"
        self._wait(f"{server}-syncer", lambda: http_ok(address, "/readyz"))
        self._wait(f"{server}-syncer", lambda: knows_accounts(address))

    @property
    def relays(self) -> tuple[str, ...]:
        """Servers that take mail from clients."""
        return tuple(name for name, server in self.config.servers.items() if server.submission)

    def start_relay(self, server: str) -> None:
        """Start the relay of *server*."""
        self._say(f"starting the relay on {server}")
        spec = relay.relay(self.state, self.config, self.ports, server, self.platform, self.endpoint)
        self._start(self._acting_as(self.config.relay_user(server), spec))

    def wait_for_relay(self, server: str) -> None:
        """Wait until the relay of *server* greets."""
        self._wait(f"{server}-relay", lambda: greets(self.ports[f"{server}-relay"], b"220"))

    @property
    def webmails(self) -> tuple[str, ...]:
        """Servers with a webmail."""
        return tuple(name for name, server in self.config.servers.items() if server.webmail)

    def start_webmail(self, server: str) -> None:
        """Start the webmail of *server*: PHP, and the web server before it."""
        self._say(f"starting the webmail on {server}")
        webmail.prepare(self.state, self.config, self.ports, server)
        webmail.authorize(self.state, self.config, self.ports, server, self.session().client("iam"))
        for folder in webmail.volumes(self.state, self.config):
            self.runtime.prepare_volume(folder)
        self._start(webmail.php(self.state, server, self.platform))
        self._start(webmail.web(self.state, server, self.platform))

    def wait_for_webmail(self, server: str) -> None:
        """Wait until the webmail of *server* answers."""
        port, tls = self.ports[f"{server}-webmail"], pki.client_context(self.ca)
        self._wait(f"{server}-php", lambda: webmail.answers(LOOPBACK, port, tls), f"{server}-web")

    def stop_container(self, name: str) -> None:
        """Stop the container *name* if it runs."""
        container = self.containers.pop(name, None)
        if container is not None:
            container.stop()

    def ended(self) -> dict[str, Exited]:
        """Containers that ended although nobody stopped them."""
        statuses = {name: container.status() for name, container in self.containers.items()}
        return {name: status for name, status in statuses.items() if isinstance(status, Exited)}

    def restart(self, name: str) -> None:
        """Start the container *name* again after it ended, and wait for it."""
        self.stop_container(name)
        if name == "localstack":
            self.start_localstack()
            self.wait_for_localstack()
            self.deploy()
        elif name == "edge":
            self.start_edge()
            self.wait_for_edge()
        else:
            server, _, service = name.rpartition("-")
            if service == "dovecot":
                self.start_dovecot(server)
                self.wait_for_dovecot(server)
            elif service == "relay":
                self.start_relay(server)
                self.wait_for_relay(server)
            elif service in ("web", "php"):
                self.stop_container(f"{server}-web")
                self.stop_container(f"{server}-php")
                self.start_webmail(server)
                self.wait_for_webmail(server)
            else:
                self.start_syncer(server)
                self.wait_for_syncer(server)

    def _acting_as(self, user: str, spec: ContainerSpec) -> ContainerSpec:
        """*spec* with the access key of the IAM user *user*."""
        folder = access_keys.ensure(self.state, self.session().client("iam"), user)
        self.runtime.prepare_volume(folder)
        # A file, as in production: anybody who may look at containers sees their environment.
        own = {"AWS_SHARED_CREDENTIALS_FILE": f"{services.SECRETS_IN_CONTAINER}/{access_keys.CREDENTIALS}"}
        others = {name: text for name, text in spec.environment.items() if name not in services.ANYBODY}
        mount = Mount(folder, services.SECRETS_IN_CONTAINER, read_only=True)
        return replace(spec, environment={**others, **own}, mounts=(*spec.mounts, mount))

    def session(self) -> Any:
        """A session whose clients talk to LocalStack; production code is handed such clients."""
        return cloud.session(self.endpoint, self.config.region)

    def account(self, server: str, login: accounts.Login) -> imap.Account:
        """How to log in to *server* as *login*."""
        port, tls = self.ports[f"{server}-imaps"], pki.client_context(self.ca)
        return imap.Account(LOOPBACK, port, login.name, login.password, tls)

    def describe(self) -> Description:
        """What runs and where."""
        return Description(
            pid=os.getpid(),
            runtime=self.runtime.name,
            endpoint=self.endpoint,
            region=self.config.region,
            edge={"host": LOOPBACK, "port": self.ports["edge"]},
            submission={"host": LOOPBACK, "port": self.ports["submission"]},
            servers={
                name: {"host": LOOPBACK, "port": self.ports[f"{name}-imaps"]} for name in self.config.servers
            },
            ca=str(self.ca),
            ports=dict(self.ports.by_service),
            config=str(self.config_file.absolute()),
        )

    @property
    def ca(self) -> Path:
        """File with the certificate of the local authority."""
        return self.state.tls / pki.CA

    # Inside

    def _prepare(self) -> None:
        """Write what the containers read: certificates and settings."""
        self.state.root.mkdir(parents=True, exist_ok=True)
        for volume in services.volumes(self.state, self.config):
            self.runtime.prepare_volume(volume)
        for name in ("edge", *self.config.servers):
            settings = self.state.settings(name)
            settings.mkdir(parents=True, exist_ok=True)
            server = self.config.servers.get(name)
            pki.ensure(self.state.tls, settings / "tls", (server.host,) if server else ("ses-edge",))
            if server:
                shutil.copyfile(self.config_file, settings / FILE)
                conf = dovecot.local_conf(
                    self.ports[f"{name}-imaps"],
                    self.ports[f"{name}-sieve"],
                    server.full_text_search,
                    relay.prepare(self.state, self.ports, name) if server.submission else None,
                )
                # It may hold the relay's secret.
                durable_file.write(settings / dovecot.FILE, conf.encode(), mode=0o600)
            self.runtime.prepare_volume(settings)

    def _start(self, spec: ContainerSpec) -> None:
        # Interrupted in between, a started container would be nobody's, and stay.
        with uninterrupted():
            self.containers[spec.name] = self.runtime.start(spec)

    def _wait(self, name: str, ready: Callable[[], bool], *others: str) -> None:
        """Wait until *name* is ready; it and *others* must not end meanwhile."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            for one in (name, *others):
                container = self.containers.get(one)
                status = container.status() if container else None
                if isinstance(status, Exited):
                    raise NotReady(
                        f"{one} ended with exit code {status.code}; the end of its log:\n{self.tail(one)}"
                    )
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{name} not ready after {READY_SECONDS:.0f} s; the end of its log:\n{self.tail(name)}"
                )
            time.sleep(0.05)

    def tail(self, name: str, lines: int = 20) -> str:
        """The last lines of the log of container *name*."""
        container = self.containers.get(name)
        if container is None:
            return "  (it is not ours)"
        text = container.logs().decode("utf-8", "replace").splitlines()[-lines:]
        return "\n".join(f"  {line}" for line in text) or "  (empty)"
