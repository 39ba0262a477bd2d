"""A stand-in for ``docker`` and ``cloud-init`` on a machine, which remembers what it is told, and fails on demand.

Nothing runs. What a real engine makes of the same commands is in test_compose.
"""

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = """#!/bin/sh
exec {python} -E -S {file} {state} {name} "$@"
"""
_NEW: dict[str, Any] = {
    "services": {},
    "other": {},
    "images": [],
    "containers": {},
    "calls": [],
    "fail": "",
    "boot": 0,
    "ready": "",
    "broken": False,
}


@dataclass(frozen=True)
class Engine:
    """Programs in the folder `bin`, and what they know in the file `state`.

    Its parts: `services` (images by service, of what Compose starts), `other` (what runs instead, by service),
    `images` (references), `containers` (images by service), `calls` (that change something), `fail` (the call that fails), `boot` (how often cloud-init is asked before its end, when it writes the file `ready`,
    unless it is `broken`).
    """

    bin: Path
    state: Path

    @classmethod
    def install(cls, folder: Path) -> "Engine":
        """Put the programs into *folder*."""
        found = cls(folder / "bin", folder / "engine.json")
        found.bin.mkdir(parents=True)
        found.forget()
        for name in ("docker", "cloud-init"):
            program = found.bin / name
            program.write_text(
                _PROGRAM.format(python=sys.executable, file=Path(__file__), state=found.state, name=name)
            )
            program.chmod(0o755)
        return found

    def forget(self, services: dict[str, str] | None = None) -> None:
        """Be as new, where Compose starts *services*."""
        self.state.write_text(json.dumps(_NEW | {"services": services or {}}))

    @property
    def calls(self) -> list[str]:
        """What it was told to change."""
        return list(json.loads(self.state.read_text())["calls"])

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Its state, to be changed."""
        with _locked(self.state) as state:
            yield state


@contextmanager
def _locked(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state = json.load(file)
        yield state
        file.seek(0)
        file.truncate()
        json.dump(state, file)


def _cloud_init(state: dict[str, Any], _: list[str]) -> int:
    state["boot"] -= 1
    if state["boot"] > 0:
        print("status: running")
    elif state["broken"]:
        print("status: error")
    else:
        Path(state["ready"]).touch()
        print("status: done")
    return 0


def _docker(state: dict[str, Any], words: list[str]) -> int:
    match words:
        case ["version", *_]:
            return 0
        case ["pull", "--quiet", reference]:
            if _fails(state, "pull"):
                return 1
            state["images"].append(reference)
        case ["image", "ls", *_]:
            print("\n".join(state["images"]))
        case ["image", "rm", reference]:
            state["images"].remove(reference)
        case ["image", "inspect", *names]:
            if not set(names) <= {*state["images"], *state["other"].values()}:
                return 1
            print(json.dumps([{"Id": one, "RepoDigests": [one]} for one in names]))
        case ["container", "inspect", "--format", _, *names]:
            print("\n".join(state["containers"][one] for one in names))
        case ["container", "inspect", *names]:
            print(json.dumps([_inspected(one, state["containers"][one]) for one in names]))
        case ["ps", "--quiet", *_]:
            print("\n".join(state["containers"]))
        case ["ps", *_]:
            print("\n".join(f"{one} Up 2 minutes (healthy)" for one in state["containers"]))
        case ["compose", "up", *_]:
            if _fails(state, "up"):
                return 1
            state["containers"] = _services(state["services"], state["other"], Path.cwd())
        case ["compose", "logs", *_]:
            print("the end of the logs", file=sys.stderr)
        case _:
            raise AssertionError(words)
    return 0


def _fails(state: dict[str, Any], call: str) -> bool:
    if state["fail"] == call:
        print(f"simulated: {call}", file=sys.stderr)
        return True
    state["calls"].append(call)
    return False


def _services(services: dict[str, str], other: dict[str, str], folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    found = {name: values[f"{image.upper()}_IMAGE"] for name, image in services.items()}
    # Somebody else's hand: Compose starts what it is told, and another one runs.
    return {name: other.get(name, reference) for name, reference in found.items()}


def _inspected(name: str, image: str) -> dict[str, Any]:
    return {"Name": f"/{name}", "State": {"Running": True}, "Image": image, "Config": {"Image": image}}


if __name__ == "__main__":
    with _locked(Path(sys.argv[1])) as known:
        run = _cloud_init if sys.argv[2] == "cloud-init" else _docker
        code = run(known, sys.argv[3:])
    sys.exit(code)
