"""Start LocalStack with the project's plugins: ``python -m twinmail_localstack --listen 127.0.0.1:4566``."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from twinmail_localstack.settings import Settings, activate, environment


def _arguments(argv: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="twinmail_localstack", description=__doc__)
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:4566")
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=Path("/var/lib/localstack"),
        help="folder that keeps buckets and tables over a restart (default: %(default)s)",
    )
    parser.add_argument("--region", default="eu-central-1")
    parser.add_argument("--debug", action="store_true", help="log every request")
    parser.add_argument(
        "--record", action="store_true", help="write down who called what, in calls.jsonl of the state folder"
    )
    parser.add_argument("--faults", action="store_true", help="let faults be switched on, for chaos runs")
    parser.add_argument(
        "--function-endpoint",
        metavar="URL",
        default="",
        help="what functions take for LocalStack: a proxy before it (default: itself)",
    )
    parsed = parser.parse_args(argv)
    host, _, port = parsed.listen.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"--listen: expected HOST:PORT, got {parsed.listen!r}")
    return Settings(
        host=host,
        port=int(port),
        state=parsed.state,
        region=parsed.region,
        debug=parsed.debug,
        record=parsed.record,
        faults=parsed.faults,
        function_endpoint=parsed.function_endpoint,
    )


def main() -> None:
    """Configure LocalStack through its environment, then run it in this process until SIGTERM."""
    settings = _arguments(sys.argv[1:])
    os.environ.update(environment(settings))
    activate(settings)
    settings.state.mkdir(parents=True, exist_ok=True)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(settings.scratch)
    # Imported only now: LocalStack reads its configuration when it is imported.
    from localstack.runtime.main import main as run

    run()


if __name__ == "__main__":
    main()
