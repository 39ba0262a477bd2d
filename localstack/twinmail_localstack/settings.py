"""The settings LocalStack is started with.

LocalStack is configured by environment variables that it reads while it is imported; this module is the only
place that names them. Nothing here reads the environment.
"""

from dataclasses import dataclass
from pathlib import Path

SERVICES = (
    "cloudformation",
    "cloudwatch",
    "dynamodb",
    "dynamodbstreams",
    "events",
    "iam",
    "lambda",
    "logs",
    "s3",
    "ses",
    "sns",
    "sqs",
    "ssm",
    "sts",
)
"""Services that can be called; each loads with its first request."""


@dataclass(frozen=True)
class Settings:
    """What the command line decides.

    Attributes:
        host: address to listen on, and the one that LocalStack names in URLs (queue URLs).
        port: TCP port.
        state: folder that outlives the process; everything else goes to a temporary folder.
        region: the AWS region that functions and clients without one use.
        debug: log every request.
        record: write down who called what (see `twinmail_localstack.recording`).
        faults: have the points of `twinmail_localstack.faults`.
        function_endpoint: URL that functions take for LocalStack's, or empty.
    """

    host: str
    port: int
    state: Path
    region: str
    debug: bool = False
    record: bool = False
    faults: bool = False
    function_endpoint: str = ""

    @property
    def scratch(self) -> Path:
        """Folder for what does not outlive the process; two LocalStacks on one machine never share it."""
        return Path(f"/tmp/localstack-{self.port}")


_current: Settings | None = None


def activate(settings: Settings) -> None:
    """Make *settings* those of this process, for the plugins, which LocalStack creates without arguments."""
    global _current
    _current = settings


def current() -> Settings:
    """The settings of this process."""
    if _current is None:
        raise RuntimeError("LocalStack's plugins need `python -m twinmail_localstack`, which was not used")
    return _current


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that configure LocalStack for *settings*."""
    address = f"{settings.host}:{settings.port}"
    scratch = str(settings.scratch)
    return {
        "GATEWAY_LISTEN": address,
        "GATEWAY_SERVER": "loopback",
        # Two cores: more threads than this only make every request slower.
        "GATEWAY_WORKER_COUNT": "64",
        "LOCALSTACK_HOST": address,
        "SERVICES": ",".join(SERVICES),
        "STRICT_SERVICE_LOADING": "1",
        "EAGER_SERVICE_LOADING": "0",
        # A /.dockerenv would make LocalStack ignore FILESYSTEM_ROOT and write where it must not.
        "OVERRIDE_IN_DOCKER": "0",
        "FILESYSTEM_ROOT": scratch,
        "HOME": "/tmp",
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "CONFIG_DIR": f"{scratch}/config",
        # Nothing may leave the machine: no telemetry, certificate download, catalogue or DNS server.
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SQS_ENDPOINT_STRATEGY": "path",
        "PROVIDER_OVERRIDE_DYNAMODB": "locked",
        "PROVIDER_OVERRIDE_DYNAMODBSTREAMS": "locked",
        "PROVIDER_OVERRIDE_S3": "durable",
        "PROVIDER_OVERRIDE_SES": "receiving",
        # A resource that LocalStack cannot create fails its stack, as in AWS, and does not pass for created.
        "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "0",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "LAMBDA_SYNCHRONOUS_CREATE": "1",
        "LAMBDA_RETRY_BASE_DELAY": "1",
        "LAMBDA_LIMITS_CONCURRENT_EXECUTIONS": "1000",
        "DEBUG": "1" if settings.debug else "0",
        "LS_LOG": "trace" if settings.debug else "info",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
