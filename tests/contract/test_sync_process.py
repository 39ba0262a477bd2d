"""The syncer as a process against S3 and SQS: killed, starved of disk, cut off, and stopped."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.localstack_process import LocalStackProcess
from tests.log_simulator import until
from tests.syncer_process import Log, SyncerProcess
from twinmail.sync.steps import STEPS

Start = Callable[..., SyncerProcess]


@pytest.fixture
def log(localstack: LocalStackProcess) -> Log:
    return Log(localstack)


@pytest.fixture
def syncer(log: Log, tmp_path: Path) -> Iterator[SyncerProcess]:
    syncer = SyncerProcess(log, tmp_path / "server")
    yield syncer
    syncer.stop()


@pytest.mark.parametrize("options", [("--no-poll",), ("--no-push",)])
def test_each_way_works_with_the_other_off(syncer: SyncerProcess, options: tuple[str, ...]) -> None:
    syncer.log.add()
    syncer.start(*options)
    syncer.until_files(1)
    syncer.log.add()
    syncer.until_files(2)


def test_notices_wrapped_by_the_topic(localstack: LocalStackProcess, tmp_path: Path) -> None:
    log = Log(localstack, raw=False)
    syncer = SyncerProcess(log, tmp_path / "server").start("--no-poll")
    try:
        log.add()
        syncer.until_files(1)
        until(lambda: log.waiting() == 0, "acknowledged")
    finally:
        syncer.stop()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [1, 3])
def test_killed_between_any_two_steps(syncer: SyncerProcess, step: str, count: int) -> None:
    for _ in range(3):
        syncer.log.add(mailboxes=("ann", "bob"))
    syncer.start("--crash-at", f"{step}:{count}")
    assert syncer.wait() == -9
    syncer.start()
    for mailbox in ("ann", "bob"):
        syncer.until_files(3, mailbox)
    syncer.log.add(mailboxes=("ann", "bob"))
    for mailbox in ("ann", "bob"):
        syncer.until_files(4, mailbox)
        assert len({path.name for path in syncer.files(mailbox)}) == 4
        leftovers = syncer.inside / "mail" / mailbox / "Maildir" / "tmp"
        until(lambda leftovers=leftovers: not list(leftovers.iterdir()), "an empty tmp")


@pytest.mark.parametrize(
    "crash", ["read", "decided:40", "staged", "linked:40", "settled", "journaled", "recorded"]
)
def test_killed_between_any_two_steps_of_a_batch(syncer: SyncerProcess, crash: str) -> None:
    for _ in range(80):
        syncer.log.add()
    syncer.start("--no-push", "--crash-at", crash)
    assert syncer.wait() == -9
    syncer.start("--no-push")
    syncer.until_files(80)
    syncer.until_settled()
    assert len({path.name for path in syncer.files()}) == len(syncer.files()) == 80
    assert not list((syncer.inside / "mail" / "ann" / "Maildir" / "tmp").iterdir())


def test_killed_and_read_before_the_restart(syncer: SyncerProcess) -> None:
    syncer.log.add()
    syncer.start("--crash-at", "linked")
    assert syncer.wait() == -9
    (path,) = syncer.files()
    archive = path.parent.parent / ".Archive" / "cur"
    archive.mkdir(parents=True)
    path.rename(archive / f"{path.name}:2,S")
    syncer.log.add()
    syncer.start()
    syncer.until_files(2)
    syncer.until_settled()
    assert len(syncer.files()) == 2 and (archive / f"{path.name}:2,S").exists()


@pytest.mark.parametrize("step", ["journaled", "recorded", "acknowledged"])
def test_killed_and_deleted_before_the_restart(syncer: SyncerProcess, step: str) -> None:
    syncer.log.add()
    syncer.start("--crash-at", step)
    assert syncer.wait() == -9
    syncer.files()[0].unlink()
    syncer.start()
    other = syncer.log.add()
    syncer.until_files(1)
    syncer.until_settled()
    assert len(syncer.files()) == 1, other


@pytest.mark.parametrize("loss", ["*.sqlite*", "*"])
def test_deleted_message_stays_deleted_after_the_ledger_is_lost(syncer: SyncerProcess, loss: str) -> None:
    for _ in range(3):
        syncer.log.add()
    syncer.start()
    syncer.until_files(3)
    # A message is seen before the journal has it. Whoever deletes it then, and stops a syncer that a slow disk
    # keeps from writing the journal within its 4 seconds, has it back: nobody else knew of it.
    syncer.until_settled()
    assert syncer.stop() == 0
    assert syncer.said("stopped")[0]["in_hand"] == "finished"
    syncer.files()[0].unlink()
    for path in (syncer.inside / "state").glob(loss):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    syncer.log.add()
    syncer.start()
    syncer.until_files(3)
    syncer.until_settled()
    assert len(syncer.files()) == 3


def test_terminated_in_the_middle_ends_well_and_loses_nothing(syncer: SyncerProcess) -> None:
    for _ in range(60):
        syncer.log.add()
    syncer.start()
    until(lambda: len(syncer.files()) >= 5, "the first messages", 60)
    assert syncer.stop() == 0
    assert syncer.said("stopped")[0]["in_hand"] == "finished"
    syncer.start()
    syncer.until_files(60)
    syncer.until_settled()
    syncer.until_acknowledged()
    assert len(syncer.files()) == 60


def test_large_messages_do_not_take_memory(syncer: SyncerProcess) -> None:
    body = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 2_000_000
    syncer.start()
    for _ in range(3):
        syncer.log.add(body)
    syncer.until_files(3)
    assert all(path.stat().st_size == len(body) for path in syncer.files())
    usage = Path(f"/proc/{syncer.pid}/status").read_text()
    peak = int(usage.partition("VmHWM:")[2].split()[0])
    # 3 messages of 36 MB, pieces of 1 MB.
    assert peak < 140_000, f"{peak} kB"


def test_bucket_and_queue_gone_for_a_while(syncer: SyncerProcess) -> None:
    syncer.log.add()
    syncer.start()
    syncer.until_files(1)
    syncer.log.remove()
    until(
        lambda: all((syncer.status()["outages"] or {})[one] for one in ("s3", "sqs")), "both are missed", 60
    )
    syncer.log.make()
    syncer.log.add()
    syncer.until_files(2)
    until(lambda: not any(syncer.status()["outages"].values()), "recovered", 90)
    assert sorted({one["what"] for one in syncer.said("unavailable")}) == ["s3", "sqs"]
    assert len(syncer.files()) == 2


def test_wrong_arguments_are_named(syncer: SyncerProcess) -> None:
    for options, error in (
        (("--server", "third"), "--server third: expected one of primary, as in"),
        (
            ("--crash-at", "nowhere"),
            "--crash-at nowhere: expected STEP or STEP:N with a step of read, staged",
        ),
        (("--no-push", "--no-poll"), "together leave nothing to do"),
    ):
        syncer.start(*options)
        assert syncer.wait() == 1
        assert error in syncer.said("cannot run")[0]["error"]


# Full and read-only disks, for real: small file systems in a mount namespace of the syncer's own.

MOUNTS = (
    'mount -t tmpfs -o size=1m,mode=700 mail "$0/mail" && mount -t tmpfs -o size=4m,mode=700 state "$0/state"'
)


def namespace() -> tuple[str, ...] | None:
    """The command that gives a process its own mounts, or None where that is not allowed."""
    for options in (("--mount",), ("--mount", "--user", "--map-root-user")):
        command = ("unshare", *options)
        script = "mount -t tmpfs none /mnt"
        if subprocess.run([*command, "sh", "-c", script], capture_output=True, check=False).returncode == 0:
            return command
    return None


class Disk:
    """The file systems of one syncer, from outside."""

    def __init__(self, syncer: SyncerProcess) -> None:
        self._syncer = syncer

    def fill(self) -> None:
        ballast = self._syncer.inside / "mail" / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        (self._syncer.inside / "mail" / "ballast").unlink()

    def remount(self, name: str, mode: str) -> None:
        user = ["--user", "--preserve-credentials"] if os.geteuid() else []
        target = ["nsenter", "--target", str(self._syncer.pid), "--mount", *user]
        # An append may just be under way: "target is busy".
        command = [*target, "mount", "-o", f"remount,{mode}", str(self._syncer.root / name)]
        until(
            lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0,
            f"remount {mode}",
        )


@pytest.fixture
def small(log: Log, tmp_path: Path) -> Iterator[Callable[[str], tuple[SyncerProcess, Disk]]]:
    """Starts a syncer on small file systems, after one more shell command (``$0`` is the root folder)."""
    command = namespace()
    if command is None or shutil.which("nsenter") is None:
        pytest.skip(
            "this machine allows no mount namespace, so a disk cannot be filled without filling its own"
        )
    started: list[SyncerProcess] = []

    def start(then: str = "true") -> tuple[SyncerProcess, Disk]:
        root = tmp_path / "server"
        wrapper = (*command, "sh", "-c", f'{MOUNTS} && {then} && exec "$@"', str(root))
        syncer = SyncerProcess(log, root, wrapper).start()
        syncer.inside = Path(f"/proc/{syncer.pid}/root{root}")
        started.append(syncer)
        return syncer, Disk(syncer)

    yield start
    for one in started:
        one.stop()


def test_full_disk(small: Callable[..., tuple[SyncerProcess, Disk]], log: Log) -> None:
    syncer, disk = small()
    log.add()
    syncer.until_files(1)
    syncer.until_settled()
    syncer.until_acknowledged()
    disk.fill()
    log.add(bytes(50_000))
    until(lambda: (syncer.status()["outages"]["disk"] or {}).get("failures", 0) >= 3, "a full disk", 60)
    assert "No space left on device; free space" in syncer.status()["outages"]["disk"]["error"]
    assert len(syncer.files()) == 1 and log.waiting() == 1
    disk.free()
    syncer.until_files(2)
    syncer.until_settled()
    syncer.until_acknowledged()
    assert syncer.status()["outages"]["disk"] is None
    assert [one["what"] for one in syncer.said("unavailable")] == ["disk"]
    assert [one["what"] for one in syncer.said("available")] == ["disk"]
    until(lambda: not list((syncer.inside / "mail" / "ann" / "Maildir" / "tmp").iterdir()), "an empty tmp")


def test_volume_that_becomes_read_only(small: Callable[..., tuple[SyncerProcess, Disk]], log: Log) -> None:
    syncer, disk = small()
    log.add()
    syncer.until_files(1)
    syncer.until_settled()
    syncer.until_acknowledged()
    disk.remount("mail", "ro")
    log.add()
    until(lambda: (syncer.status()["outages"]["disk"] or {}).get("failures", 0) >= 3, "a read-only disk", 60)
    assert "Read-only file system; mount it for writing" in syncer.status()["outages"]["disk"]["error"]
    assert len(syncer.files()) == 1 and log.waiting() == 1
    disk.remount("mail", "rw")
    syncer.until_files(2)
    syncer.until_settled()
    syncer.until_acknowledged()
    assert [one["what"] for one in syncer.said("unavailable")] == ["disk"]


def test_ledger_that_is_read_only_at_the_start(
    small: Callable[..., tuple[SyncerProcess, Disk]], log: Log
) -> None:
    log.add()
    syncer, disk = small('mount -o remount,ro "$0/state"')
    until(lambda: (syncer.status().get("outages") or {}).get("disk"), "a read-only disk", 60)
    assert not syncer.status()["ready"] and log.waiting() >= 1 and syncer.files() == []
    disk.remount("state", "rw")
    syncer.until_files(1)
    syncer.until_settled()
    syncer.until_acknowledged()
