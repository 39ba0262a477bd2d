"""``./inv doctor --aws`` as its user runs it, before any server is there: LocalStack in the place of AWS."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.cloud import TOML
from tests.contract.deployed import Deployed
from tests.name_server import HOST, serve
from twinmail.doctor.examination import CHECKS
from twinmail.tasks.config import PROJECT


def environment(endpoint: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def test_every_check_says_something_of_a_cloud_without_servers(
    deployed: Deployed, endpoint: str, tmp_path: Path
) -> None:
    path = tmp_path / "twinmail.toml"
    path.write_text(TOML)
    with serve("example.org", "example.net") as names:
        inv = [sys.executable, str(PROJECT / "tasks.py"), "doctor", "--aws", "--json", "--config", str(path)]
        done = subprocess.run(
            [*inv, "--resolver", f"{HOST}:{names.port}"],
            cwd=tmp_path,
            env=environment(endpoint),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    told = json.loads(done.stdout)
    assert told["place"] == "AWS, eu-central-1" and told["state"] == "problem"
    findings = told["findings"]
    states = {one.name: {each["state"] for each in findings if each["check"] == one.name} for one in CHECKS}
    for name in ("configuration", "clock", "stack", "rules", "bucket", "queues"):
        assert states[name] == {"ok"}, findings
    # LocalStack takes who has no user for the root.
    assert states["credentials"] == {"warning"}
    # Which LocalStack has not.
    assert states["sending"] == states["identities"] == {"cannot tell"}
    # Nothing of the domains is in the DNS, and what AWS alone knows is not asked for in vain.
    assert states["dns"] == {"cannot tell", "problem", "ok"}
    mx = next(one for one in findings if one["subject"] == "example.org MX")
    assert mx["state"] == "problem" and "missing" in mx["text"] and "./inv dns" in mx["remedy"]
    # Nothing says where the servers run.
    assert states["images"] == set() and all(states[name] for name in states.keys() - {"images"})
    assert states["servers"] == {"cannot tell"}


def test_ctrl_c_waits_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "twinmail.toml"
    path.write_text(TOML)
    with socket.create_server((HOST, 0)) as silent:
        silent.settimeout(60)
        inv = [
            sys.executable,
            str(PROJECT / "tasks.py"),
            "doctor",
            "--aws",
            "clock",
            "bucket",
            "--config",
            str(path),
        ]
        url = f"http://{HOST}:{silent.getsockname()[1]}"
        process = subprocess.Popen(inv, env=environment(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            # It asks now, and nobody answers.
            silent.accept()
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, error) == (130, b"", b"interrupted\n")
