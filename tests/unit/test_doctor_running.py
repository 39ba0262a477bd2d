"""What runs on a server in production, asked over SSH and through the cluster, beside the pins."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from twinmail.config import Config
from twinmail.doctor.running import NotAsked, asks
from twinmail.errors import TwinmailError
from twinmail.oci.digests import Digests
from twinmail.secret_store import SecretStore

PROJECT = Path(__file__).parents[2]
CONFIG = Config.load(PROJECT / "twinmail.toml")
PRIMARY = next(one for one in CONFIG.servers.values() if one.kubernetes)
BACKUP = next(one for one in CONFIG.servers.values() if one.lightsail)
PINS = Digests.load(PROJECT).images
OLD = f"sha256:{7:064x}"


def program(folder: Path, name: str, answers: dict[str, Any], code: int = 0) -> None:
    """A stand-in for *name*: what it writes, by a word of its command line."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsaid = ' '.join(sys.argv)\n"
        f"for word, answer in {answers!r}.items():\n"
        "    if word in said:\n        sys.stdout.write(answer)\n        break\n"
        f"else:\n    sys.stderr.write('refused')\nsys.exit({code})\n"
    )
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def asked(folder: Path, server: str) -> list[str]:
    return list(asks(CONFIG, PROJECT, SecretStore(folder / "secrets"), folder / "deployed")[server]())


def docker(**images: str) -> dict[str, Any]:
    """What ``docker`` says of containers of *images*, by the digests that they were pulled by."""
    containers = [
        {
            "Id": f"c{name}",
            "Name": f"/twinmail-{name}-1",
            "Image": f"sha256:{number:064x}",
            "State": {"Running": True},
            "Config": {"Image": f"registry.example/{name}@{digest}"},
        }
        for number, (name, digest) in enumerate(images.items())
    ]
    known = [
        {
            "Id": one["Image"],
            "RepoDigests": [one["Config"]["Image"]],
            "RootFS": {"Layers": PINS[name][BACKUP.platform]["diff_ids"]},
        }
        for one, name in zip(containers, images, strict=True)
    ]
    return {
        "docker ps": "\n".join(one["Id"] for one in containers),
        "docker container inspect": json.dumps(containers),
        "docker image inspect": json.dumps(known),
    }


def pods(**images: str) -> dict[str, Any]:
    statuses = [
        {
            "name": name,
            "image": name,
            "imageID": f"registry.example/{name}@{digest}",
            "state": {"running": {}},
        }
        for name, digest in images.items()
    ]
    item = {"metadata": {"name": "twinmail-0"}, "status": {"containerStatuses": statuses}}
    return {"get pods": json.dumps({"items": [item]})}


def pinned(platform: str, *names: str) -> dict[str, str]:
    return {name: PINS[name][platform]["manifest"] for name in names}


def test_a_machine_that_runs_other_images(folder: Path) -> None:
    right = pinned(BACKUP.platform, "dovecot", "syncer", "roundcube", "certbot")
    program(folder, "ssh", docker(**right))
    assert asked(folder, BACKUP.name) == []
    program(folder, "ssh", docker(**{**right, "dovecot": OLD}))
    (difference,) = asked(folder, BACKUP.name)
    assert difference.startswith("twinmail-dovecot-1: dovecot: expected sha256:") and OLD in difference
    del right["syncer"]
    program(folder, "ssh", docker(**right))
    (difference,) = asked(folder, BACKUP.name)
    assert difference.startswith("syncer: nothing runs it")


def test_a_cluster_that_runs_other_images(folder: Path) -> None:
    right = pinned(PRIMARY.platform, "dovecot", "syncer")
    program(folder, "kubectl", pods(**right))
    assert asked(folder, PRIMARY.name) == []
    program(folder, "kubectl", pods(**{**right, "syncer": OLD}))
    (difference,) = asked(folder, PRIMARY.name)
    assert difference.startswith("twinmail-0/syncer: syncer: expected") and OLD in difference


def test_who_does_not_answer_is_an_error_in_words(folder: Path) -> None:
    program(folder, "ssh", {}, 255)
    with pytest.raises(TwinmailError, match="refused"):
        asked(folder, BACKUP.name)
    program(folder, "kubectl", {}, 1)
    with pytest.raises(NotAsked, match="kubectl: refused"):
        asked(folder, PRIMARY.name)
    (folder / "kubectl").unlink()
    with pytest.raises(NotAsked, match="No such file"):
        asked(folder, PRIMARY.name)
