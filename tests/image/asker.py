"""Asks Pigeonhole from a container of the syncer's image, which shares nothing with Dovecot's but the volume."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image.dovecot import Dovecot
from twinmail.runtime.interface import GID, UID, Container, ContainerSpec, Mount, Runtime

MAIL = "/var/mail/twinmail"
_WAIT = ("/usr/bin/tini", "--", "/usr/bin/python3", "-c", "import signal; signal.pause()")
_ASK = """
import dataclasses, json, sys, time
from pathlib import Path
from twinmail.filter.pigeonhole import Pigeonhole, Question
told = json.loads(sys.argv[1])
seconds, count = told.pop("seconds"), told.pop("count")
asked = Question(**{**told, "message": Path(told["message"])})
pigeonhole = Pigeonhole(Path("/var/mail/twinmail"), seconds)
start = time.monotonic()
try:
    for _ in range(count):
        answer = dataclasses.asdict(pigeonhole.ask(asked))
except Exception as error:
    answer = {"error": type(error).__name__, "text": str(error)}
answer["each_ms"] = (time.monotonic() - start) / count * 1000
print(json.dumps(answer, default=lambda one: one.decode() if isinstance(one, bytes) else str(one)))
"""


@dataclass
class Asker:
    """Asks about messages for the users of *dovecot*."""

    dovecot: Dovecot
    container: Container

    def script(self, user: str, text: str, name: str = "main") -> None:
        """Make *text* the active script of *user*, as Pigeonhole keeps it on the disk."""
        home = self.dovecot.folder / "mail" / user
        for folder in (home, home / "sieve"):
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                self._own(folder)
        path, link = home / "sieve" / f"{name}.sieve", home / ".dovecot.sieve"
        path.write_text(text)
        self._own(path)
        (home / "sieve" / f"{name}.svbin").unlink(missing_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"sieve/{name}.sieve")
        self._own(link)

    def ask(
        self,
        message: bytes,
        user: str = "ann",
        recipient: str = "ann@example.org",
        mail_from: str = "bob@example.com",
        folder: str = "INBOX",
        seconds: float = 30,
        count: int = 1,
    ) -> dict:  # type: ignore[type-arg]
        """What becomes of *message*: `Answer` as a dictionary, or ``error`` and ``text``."""
        path = self.dovecot.folder / "mail" / ".server" / "question.eml"
        path.write_bytes(message)
        self._own(path)
        told = {
            "mailbox": user,
            "folder": folder,
            "mail_from": mail_from,
            "recipient": recipient,
            "message": f"{MAIL}/.server/question.eml",
            "seconds": seconds,
            "count": count,
        }
        result = self.container.exec(["/usr/bin/python3", "-c", _ASK, json.dumps(told)], timeout=120)
        assert result.code == 0, result.output.decode()
        answer: dict = json.loads(result.output.splitlines()[-1])  # type: ignore[type-arg]
        return answer

    def folders(self, message: bytes, **told: str) -> dict[str, tuple[str, list[str]]]:
        """Flags and keywords of the copies of *message*, by folder."""
        answer = self.ask(message, **told)  # type: ignore[arg-type]
        assert not answer.get("complaints") and "error" not in answer, answer
        return {one["folder"]: (one["flags"], one["keywords"]) for one in answer["placements"]}

    @property
    def left(self) -> list[str]:
        """Shadows that are still there."""
        return sorted(one.name for one in (self.dovecot.folder / "mail" / ".server" / "decide").iterdir())

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, UID, GID, follow_symlinks=False)


@contextmanager
def asker(runtime: Runtime, dovecot: Dovecot, syncer: Path) -> Iterator[Asker]:
    """Start the container from the layout *syncer*, and stop it."""
    spec = ContainerSpec(
        name="asker",
        layout=syncer,
        platform=dovecot.platform,
        entrypoint=_WAIT,
        mounts=(Mount(dovecot.folder / "mail", MAIL),),
    )
    container = runtime.start(spec)
    try:
        yield Asker(dovecot, container)
    finally:
        container.stop()
