"""What runs, compared with what is pinned."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from twinmail.deploy.running import (
    Container,
    RunningError,
    compare,
    docker_containers,
    pod_containers,
    read_docker,
    read_kubernetes,
)
from twinmail.oci.digests import Digests

ARM, AMD = "linux/arm64", "linux/amd64"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


PINS = Digests(
    {
        name: {
            platform: {
                "manifest": digest(base + offset),
                "debug": digest(900),
                "diff_ids": [digest(10), digest(base + offset + 50)],
            }
            for offset, platform in enumerate((AMD, ARM))
        }
        for base, name in ((100, "dovecot"), (200, "syncer"))
    }
)
WANTED = ("dovecot", "syncer")


def right(name: str, base: int) -> Container:
    return Container(f"twinmail-{name}-1", name, frozenset({digest(base)}), (digest(10), digest(base + 50)))


def texts(*containers: Container, platform: str = AMD) -> list[str]:
    return [str(one) for one in compare(containers, PINS, platform, WANTED)]


def test_what_is_pinned_runs() -> None:
    assert texts(right("dovecot", 100), right("syncer", 200)) == []


def test_other_digest_is_named() -> None:
    other = Container("twinmail-dovecot-1", "dovecot", frozenset({digest(1)}), (digest(2),))
    assert texts(other, right("syncer", 200)) == [
        f"twinmail-dovecot-1: dovecot: expected {digest(100)}, got {digest(1)}"
    ]


def test_image_of_the_other_platform_is_another() -> None:
    assert len(texts(right("dovecot", 100), right("syncer", 200), platform=ARM)) == 2


def test_nothing_runs() -> None:
    assert texts() == [
        f"dovecot: nothing runs it; expected {digest(100)}",
        f"syncer: nothing runs it; expected {digest(200)}",
    ]


def test_stranger_is_named() -> None:
    stranger = Container("twinmail-x-1", "x", frozenset({digest(7)}))
    assert texts(stranger, right("dovecot", 100), right("syncer", 200)) == [
        f"twinmail-x-1: runs x ({digest(7)}), which images/digests.json does not pin"
    ]


def test_right_name_on_other_layers_is_no_pin() -> None:
    """A tag or digest in the container's configuration proves nothing about what the engine unpacked."""
    forged = Container("twinmail-dovecot-1", "dovecot", frozenset({digest(100)}), (digest(666),))
    assert len(texts(forged, right("syncer", 200))) == 1


def test_loaded_image_is_known_by_its_layers() -> None:
    loaded = Container("d", "dovecot", frozenset({digest(5)}), (digest(10), digest(150)))
    assert texts(loaded, right("syncer", 200)) == []


def inspected(name: str, image: str, identity: str, running: bool = True) -> dict[str, Any]:
    return {
        "Name": f"/{name}",
        "Image": identity,
        "Config": {"Image": image},
        "State": {"Running": running},
    }


def test_docker() -> None:
    reference = f"127.0.0.1:27149/twinmail/dovecot@{digest(100)}"
    image = {
        "Id": digest(3),
        "RepoDigests": [reference],
        "RepoTags": [],
        "RootFS": {"Layers": [digest(10), digest(150)]},
    }
    ended = inspected("twinmail-init-1", reference, digest(3), running=False)
    assert docker_containers([inspected("twinmail-dovecot-1", reference, digest(3)), ended], [image]) == (
        Container(
            "twinmail-dovecot-1",
            "dovecot",
            frozenset({digest(100), digest(3)}),
            (digest(10), digest(150)),
        ),
    )


def test_docker_container_started_by_the_id_of_its_image() -> None:
    image = {
        "Id": digest(3),
        "RepoDigests": [],
        "RepoTags": ["twinmail/syncer:abc"],
        "RootFS": {"Layers": [digest(10)]},
    }
    (found,) = docker_containers([inspected("s", digest(3), digest(3))], [image])
    assert found.image == "syncer"


def test_pods() -> None:
    pods = {
        "items": [
            {
                "metadata": {"name": "twinmail-0"},
                "status": {
                    "containerStatuses": [
                        {
                            "name": "dovecot",
                            "image": "sha256:" + "f" * 64,
                            "imageID": f"127.0.0.1:27149/twinmail/dovecot@{digest(101)}",
                            "state": {"running": {}},
                        },
                        {
                            "name": "syncer",
                            "image": f"registry:5000/ann/syncer@{digest(201)}",
                            "imageID": "",
                            "state": {"waiting": {"reason": "ImagePullBackOff"}},
                        },
                    ]
                },
            },
            {"metadata": {"name": "pending"}, "status": {}},
        ]
    }
    (found,) = pod_containers(pods)
    assert found.name == "twinmail-0/dovecot"
    assert [str(one) for one in compare([found], PINS, ARM, WANTED)] == [
        f"syncer: nothing runs it; expected {digest(201)}"
    ]


class Engine:
    """Answers commands from a table and remembers them."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.asked: list[Sequence[str]] = []

    def __call__(self, argv: Sequence[str]) -> bytes:
        self.asked.append(argv)
        answer = self._answers.pop(0)
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def test_docker_is_asked_for_one_project() -> None:
    reference = f"r/dovecot@{digest(100)}"
    image = {"Id": digest(3), "RepoDigests": [reference], "RootFS": {"Layers": [digest(10)]}}
    engine = Engine(b"aa\n", [inspected("d", reference, digest(3))], [image])
    (found,) = read_docker(engine)
    assert found.image == "dovecot"
    assert "label=com.docker.compose.project=twinmail" in engine.asked[0]
    assert engine.asked[1:] == [
        ["docker", "container", "inspect", "aa"],
        ["docker", "image", "inspect", digest(3)],
    ]


def test_docker_runs_nothing() -> None:
    assert read_docker(Engine(b"")) == ()


def test_cluster_is_asked_by_context_and_namespace() -> None:
    engine = Engine({"items": []})
    assert read_kubernetes(engine, "picluster", "mail", "app=twinmail") == ()
    assert engine.asked == [
        [
            *("kubectl", "get", "pods", "--namespace", "mail", "--output", "json"),
            *("--context=picluster", "--selector=app=twinmail"),
        ]
    ]


def test_answer_that_is_no_json() -> None:
    with pytest.raises(RunningError, match="kubectl get pods: expected JSON, got b'No resources'"):
        read_kubernetes(Engine(b"No resources"), "", "mail")
