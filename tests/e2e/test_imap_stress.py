"""Several clients in one folder at once, doing what comes to mind, while mail arrives.

What `imaptest` of the Dovecot project checks, which Debian does not package: every client keeps its own picture
of the folder from nothing but what the server tells it, and in the end all pictures, a client that just logged
in, and the files on the disk say the same. The seed is fixed; the order in which the server takes the commands
of several clients is not, and need not be.
"""

import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.imap_session import Answer, Session
from twinmail.local.state import LOOPBACK

USER = "stress"
CLIENTS = 4
COMMANDS = 300
DELIVERED = 20
FLAGS = (r"\Seen", r"\Flagged", r"\Answered", r"\Draft", "$Label1", "NonJunk")

_NUMBERED = re.compile(rb"(\d+) (EXISTS|EXPUNGE|FETCH)(.*)", re.DOTALL)
_UID = re.compile(rb"\bUID (\d+)")
_FLAGS = re.compile(rb"\bFLAGS \(([^)]*)\)")


@dataclass
class Seen:
    """One message, as a client knows it."""

    uid: int | None = None
    flags: frozenset[bytes] | None = None


@dataclass
class Picture:
    """A client's picture of the folder, by sequence number."""

    messages: list[Seen] = field(default_factory=list)
    subjects: dict[int, bytes] = field(default_factory=dict)

    def learn(self, answer: Answer) -> None:
        for line in answer.untagged:
            match = _NUMBERED.match(line)
            if not match:
                continue
            number, kind = int(match[1]), match[2]
            if kind == b"EXISTS":
                assert number >= len(self.messages), f"{line!r}, and {len(self.messages)} are known"
                self.messages += [Seen() for _ in range(number - len(self.messages))]
            elif kind == b"EXPUNGE":
                assert 1 <= number <= len(self.messages), line
                del self.messages[number - 1]
            else:
                self._fetched(number, line)

    def _fetched(self, number: int, line: bytes) -> None:
        assert 1 <= number <= len(self.messages), line
        one = self.messages[number - 1]
        header = line.partition(b"{")[0]
        if uid := _UID.search(header):
            assert one.uid in (None, int(uid[1])), f"message {number} was UID {one.uid}: {line!r}"
            one.uid = int(uid[1])
            if subject := re.search(rb"Subject: ([^\r]*)", line):
                assert self.subjects.setdefault(one.uid, subject[1]) == subject[1]
        if flags := _FLAGS.search(header):
            one.flags = frozenset(flags[1].split()) - {rb"\Recent"}
        known = [seen.uid for seen in self.messages if seen.uid]
        assert known == sorted(set(known)), "UIDs ascend"

    def state(self) -> list[tuple[int | None, frozenset[bytes] | None]]:
        return [(one.uid, one.flags) for one in self.messages]


class Person:
    """Somebody at a device, whose next action depends on the seed only."""

    def __init__(self, session: Session, folder: str, seed: int) -> None:
        self.name = f"device {seed}"
        self.session = session
        self.folder = folder
        self.picture = Picture()
        self._random = random.Random(seed)
        self.refused: list[bytes] = []

    def work(self) -> None:
        actions: tuple[Callable[[], None], ...] = (
            self.append,
            self.append,
            self.store,
            self.store,
            self.store,
            self.fetch,
            self.fetch,
            self.search,
            self.copy,
            self.move,
            self.delete,
            self.expunge,
            self.wait,
            self.select,
        )
        self.select()
        for _ in range(COMMANDS):
            self._random.choice(actions)()

    def do(self, command: str, literal: bytes | None = None) -> Answer:
        answer = self.session.do(command, literal)
        # What another client expunged may be refused; no command may be misunderstood.
        assert answer.status == "OK" or b"[EXPUNGEISSUED]" in answer.text, (self.name, command, answer)
        if answer.status != "OK":
            self.refused.append(answer.text)
        self.picture.learn(answer)
        return answer

    def select(self) -> None:
        subjects = self.picture.subjects
        self.picture = Picture(subjects=subjects)
        self.do(f'SELECT "{self.folder}"')
        self.do("UID FETCH 1:* (FLAGS)")

    def append(self) -> None:
        number = self._random.getrandbits(64)
        text = (
            f"From: {self.name}\r\nSubject: {number:x}\r\n\r\n" + "x" * self._random.randrange(2000) + "\r\n"
        )
        self.do(f'APPEND "{self.folder}" ({" ".join(self._flags())})', text.encode())

    def store(self) -> None:
        if some := self._some():
            sign = self._random.choice(("+", "-", ""))
            silent = self._random.choice(("", ".SILENT"))
            self.do(f"UID STORE {some} {sign}FLAGS{silent} ({' '.join(self._flags())})")
            if silent:
                # The server says only what others changed.
                self.do(f"UID FETCH {some} (FLAGS)")

    def fetch(self) -> None:
        if some := self._some():
            self.do(f"UID FETCH {some} (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")

    def search(self) -> None:
        self.do(
            f"UID SEARCH {self._random.choice(('ALL', 'UNSEEN', 'FLAGGED', 'SUBJECT a', 'KEYWORD NonJunk'))}"
        )

    def copy(self) -> None:
        if self._random.random() < 0.3 and (some := self._some(2)):
            self.do(f'UID COPY {some} "{self.folder}"')

    def move(self) -> None:
        if some := self._some(2):
            self.do(f"UID MOVE {some} Archive")

    def delete(self) -> None:
        if some := self._some(3):
            self.do(rf"UID STORE {some} +FLAGS (\Deleted)")

    def expunge(self) -> None:
        self.do("EXPUNGE")

    def wait(self) -> None:
        self.do(self._random.choice(("NOOP", "CHECK")))

    def _some(self, most: int = 6) -> str:
        known = [one.uid for one in self.picture.messages if one.uid]
        chosen = self._random.sample(known, min(len(known), self._random.randint(1, most)))
        return ",".join(map(str, sorted(chosen)))

    def _flags(self) -> list[str]:
        return self._random.sample(FLAGS, self._random.randint(0, 3))


def login(running: Running, server: str) -> Session:
    session = Session(LOOPBACK, running.system.ports[f"{server}-imaps"], running.tls)
    session.ok(f'LOGIN {USER} "{running.passwords[USER]}"')
    return session


@pytest.mark.parametrize("server", SERVERS)
def test_many_clients_end_with_the_same_picture(running: Running, server: str) -> None:
    people = [Person(login(running, server), "INBOX", seed) for seed in range(CLIENTS)]
    mail = [
        f"From: sender@example.com\r\nSubject: delivered {number}\r\n\r\nHello\r\n".encode()
        for number in range(DELIVERED)
    ]
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        delivery = pool.submit(running.sender.send_all, mail, [f"{USER}@example.org"])
        for done in [pool.submit(one.work) for one in people]:
            done.result()
        delivery.result()

    with login(running, server) as session:
        maildir = running.state.maildirs(server) / USER / "Maildir"
        deadline = time.monotonic() + 60
        while not (same := compare(people, Person(session, "INBOX", CLIENTS), maildir)).agree:
            # The last messages may still be on their way; a wrong picture stays wrong.
            assert time.monotonic() < deadline, same
        assert len(same.fresh) > 1
        assert all(uid and flags is not None for uid, flags in same.fresh)
        (archived,) = session.ok("STATUS Archive (MESSAGES)").all(rb"STATUS Archive \(MESSAGES (\d+)\)")
        assert files(maildir / ".Archive") == int(archived[1]) > 0
    for one in people:
        one.session.ok("LOGOUT")


@dataclass(frozen=True)
class Comparison:
    """The same folder as a new client, the files, and each old client tell it."""

    fresh: list[tuple[int | None, frozenset[bytes] | None]]
    files: int
    people: dict[str, list[tuple[int | None, frozenset[bytes] | None]]]

    @property
    def agree(self) -> bool:
        return self.files == len(self.fresh) and all(one == self.fresh for one in self.people.values())


def compare(people: list[Person], truth: Person, maildir: Path) -> Comparison:
    for one in people:
        one.do("NOOP")
        one.do("UID FETCH 1:* (FLAGS)")
    truth.select()
    truth.do("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    for one in people:
        for uid, subject in one.picture.subjects.items():
            assert truth.picture.subjects.get(uid, subject) == subject, f"UID {uid} is another message"
    return Comparison(
        truth.picture.state(), files(maildir), {one.name: one.picture.state() for one in people}
    )


def files(folder: Path) -> int:
    return sum(1 for kind in ("new", "cur") for _ in (folder / kind).iterdir())
