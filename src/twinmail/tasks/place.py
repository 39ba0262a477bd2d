"""Which system a task changes: the one that runs on this machine, else the one in AWS."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmail import durable_file
from twinmail.account_store import S3AccountStore
from twinmail.config import FILE, Config
from twinmail.errors import ConfigError, PermanentError
from twinmail.local.state import Description, Ports, State, running
from twinmail.tasks.config import PROJECT


@dataclass(frozen=True)
class Place:
    """A system, and how to reach it.

    Attributes:
        name: for messages.
        session: boto3's session, or one with its interface.
        state: the folders of the local system; None in AWS.
    """

    name: str
    session: Any
    state: State | None = None
    description: Description | None = None

    def accounts(self, config: Config) -> S3AccountStore:
        """Where its accounts are."""
        return S3AccountStore(self.session.client("s3"), config.bucket)

    def bring_up_to_date(self, config: Config, config_file: Path) -> None:
        """Let the cloud and, where they are here, the servers know what *config* says now.

        Raises:
            TwinmailError: see `twinmail.local.deployment.deploy`; doing it again completes it.
        """
        from twinmail.local import deployment, settings

        if self.state is None:
            self._check_deployed(config)
        deployment.deploy(config, config_file, self.session, lambda text: None)
        if self.state is not None and self.description is not None:
            text = config_file.read_text("utf-8")
            settings.refresh(self.state, config, text, Ports(self.description.ports))

    def mail_of(self, config: Config, mailbox: str) -> list[str]:
        """Where the mail of *mailbox* is."""
        if self.state is not None:
            folders = [str(self.state.maildirs(name) / mailbox) for name in config.servers]
        else:
            folders = [f"{name}: /var/mail/twinmail/{mailbox}" for name in config.servers]
        return [*folders, f"s3://{config.bucket}/processed/"]

    def _check_deployed(self, config: Config) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.session.client("cloudformation").describe_stacks(StackName=config.stack)
        except (BotoCoreError, ClientError) as error:
            raise PermanentError(
                f"{self.name}: stack {config.stack}: {error}; deploy it first, or start a local system with: "
                "./inv up"
            ) from error


@dataclass(frozen=True)
class NoSession:
    """In place of boto3's, where that cannot be made: whoever asks anything of AWS is told why."""

    error: Exception

    def client(self, *_: Any, **__: Any) -> Any:
        """Raise *error*."""
        raise self.error


def find(config: Config, state: str, aws: bool, *, signed_in: bool = True) -> Place:
    """The local system if one runs in the folder *state* (empty: the usual one); with *aws* never that.

    Args:
        signed_in: whether AWS is of no use without credentials; it is to who says what is wrong with them.

    Raises:
        PermanentError: there is neither.
    """
    if aws and state:
        raise PermanentError("--aws and --state: the state folder is a local system's; give one of them")
    if not aws and (here := local(config, state)):
        return here
    import boto3
    from botocore.exceptions import BotoCoreError

    name = f"AWS, {config.region}"
    try:
        session = boto3.Session(region_name=config.region)
        known = not signed_in or session.get_credentials() is not None
    except BotoCoreError as error:
        if not signed_in:
            return Place(name, NoSession(error))
        # Such as a profile that is not there, or a file that cannot be read.
        raise PermanentError(f"credentials of AWS: {error}; see AWS_PROFILE and ~/.aws") from error
    if not known and aws:
        raise PermanentError("the AWS SDK finds no credentials; see: aws configure list")
    if not known:
        raise PermanentError(
            "no system runs here, and the AWS SDK finds no credentials; start one with: ./inv up"
        )
    return Place(name, session)


def local(config: Config, state: str) -> Place | None:
    """The local system in the folder *state* (empty: the usual one), if it runs.

    Raises:
        PermanentError: *state* names one, and it does not run.
    """
    from twinmail.local import cloud

    folders = _folders(state)
    try:
        description = running(folders)
    except PermanentError:
        if state:
            raise
        return None
    return Place("the local system", cloud.session(description.endpoint, config.region), folders, description)


def _folders(state: str) -> State:
    return State.of_checkout(PROJECT, Path(state).absolute() if state else None)


def config_file(config: str, state: str = "") -> Path:
    """The configuration to read and change: *config*, else that of the local system, else the checkout's."""
    if config:
        return Path(config).absolute()
    description = Description.load(_folders(state))
    return Path(description.config) if description and description.config else PROJECT / FILE


class ConfigFile:
    """A configuration file that nobody else of us edits meanwhile; see `editing`.

    Attributes:
        text: what is in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            self.text = self.path.read_bytes().decode("utf-8")
        except OSError as error:
            raise ConfigError(path.name, [f"cannot be read: {error.strerror} ({path})"]) from error
        except UnicodeDecodeError as error:
            raise ConfigError(path.name, [f"not UTF-8: octet {error.start}"]) from error

    def write(self, text: str) -> None:
        """Put *text* in its place, durably.

        Raises:
            NotWritten: the old text is untouched.
        """
        if text != self.text:
            mode = self.path.stat().st_mode & 0o777
            durable_file.write(self.path, text.encode("utf-8"), mode)
            self.text = text


@contextmanager
def editing(path: Path) -> Iterator[ConfigFile]:
    """The file at *path*, for one task at a time.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        # The folder, not the file: that is another one after each change.
        descriptor = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(path.name, [f"cannot be read: {error.strerror} ({path})"]) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield ConfigFile(path)
    finally:
        os.close(descriptor)
