"""Settings of two servers through one bucket: real folders, a bucket in memory, a clock that is set."""

import io
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.log_simulator import DOWN, StateSimulator, until
from twinmail import mailbox_settings
from twinmail.mailbox_settings import HAM, JUNK, SCRIPT_BYTES, SCRIPTS, Settings, key
from twinmail.sieve_folder import FOLDER, LINK, MARKER, SieveFolder
from twinmail.sync.chores import Chores
from twinmail.sync.log import Log
from twinmail.sync.settings import SettingsLook, SettingsPull, SettingsTrouble, SharedSettings
from twinmail.sync.source import SourceUnavailable

START = 1_700_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        self.now += 1
        return self.now


class Server:
    """One server: its folders, and what a ManageSieve client does there."""

    def __init__(self, name: str, root: Path, store: StateSimulator, clock: Clock) -> None:
        self.name, self.mail, self.state = name, root / name / "mail", root / name / "state"
        self.mail.mkdir(parents=True)
        self.state.mkdir()
        self.store, self.clock = store, clock
        self.log = io.StringIO()
        self.restart()

    def restart(self) -> None:
        self.mailboxes = ["ann", "bob"]
        self.shared = SharedSettings(
            self.name, self.mailboxes, self.mail, self.state, self.store, Log(self.log), self.clock
        )

    @property
    def home(self) -> Path:
        return self.mail / "ann"

    def put(self, name: str, body: str) -> None:
        """As Pigeonhole does: a new file renamed into place."""
        folder = self.home / FOLDER
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        path = folder / "tmp" / f"{name}.sieve"
        path.write_bytes(body.encode())
        now = self.clock()
        os.utime(path, (now, now))
        path.replace(folder / f"{name}.sieve")

    def activate(self, name: str) -> None:
        link = self.home / LINK
        link.unlink(missing_ok=True)
        if name:
            link.symlink_to(f"{FOLDER}/{name}.sieve")
            now = self.clock()
            os.utime(link, (now, now), follow_symlinks=False)

    def delete(self, name: str) -> None:
        (self.home / FOLDER / f"{name}.sieve").unlink()

    def turn(self) -> None:
        SettingsLook(self.shared).turn()
        SettingsPull(self.shared).turn()

    def scripts(self) -> dict[str, str]:
        found = SieveFolder(self.home).read()
        return {name: body for name, (body, _) in found.scripts.items()}

    def active(self) -> str:
        return SieveFolder(self.home).read().active


class Pair:
    def __init__(self, root: Path) -> None:
        self.clock, self.store = Clock(), StateSimulator()
        self.primary = Server("primary", root, self.store, self.clock)
        self.backup = Server("backup", root, self.store, self.clock)

    def settle(self) -> None:
        for server in (self.primary, self.backup, self.primary, self.backup):
            server.turn()

    def document(self) -> Settings:
        return Settings.from_bytes(self.store.objects[key("ann")])

    def same(self, scripts: dict[str, str], active: str = "") -> None:
        for server in (self.primary, self.backup):
            assert server.scripts() == scripts, server.name
            assert server.active() == active, server.name
            assert server.shared.of("ann").live == scripts
            assert server.shared.of("ann").active_name == active
        if self.store.objects:
            assert self.document().live == scripts


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_nothing_to_share_is_no_object(pair: Pair) -> None:
    pair.settle()
    assert not pair.store.objects
    assert not pair.primary.home.exists()


def test_script_put_on_one_server_is_in_use_on_the_other(pair: Pair) -> None:
    pair.backup.put("work", "keep;\r\n")
    pair.backup.activate("work")
    pair.settle()
    pair.same({"work": "keep;\r\n"}, "work")
    assert (pair.primary.home / LINK).readlink() == Path(FOLDER) / "work.sieve"
    assert (pair.primary.home / FOLDER / "work.sieve").stat().st_mode & 0o777 == 0o600


def test_edit_replaces_and_forgets_what_was_compiled(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.primary.activate("a")
    pair.settle()
    for binary in (pair.backup.home / FOLDER / "a.svbin", pair.backup.home / ".dovecot.svbin"):
        binary.write_bytes(b"old")
    pair.primary.put("a", "discard;")
    pair.settle()
    pair.same({"a": "discard;"}, "a")
    assert not list(pair.backup.home.rglob("*.svbin"))


def test_deleted_through_managesieve_is_deleted_everywhere(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.primary.put("b", "stop;")
    pair.settle()
    pair.backup.delete("a")
    pair.settle()
    pair.same({"b": "stop;"})
    pair.primary.delete("b")
    pair.settle()
    pair.same({})


def test_deactivated_everywhere(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.primary.activate("a")
    pair.settle()
    pair.backup.activate("")
    pair.settle()
    pair.same({"a": "keep;"}, "")


def test_edits_of_different_scripts_at_once_are_both_kept(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.settle()
    pair.primary.put("mine", "stop;")
    pair.backup.put("yours", "discard;")
    pair.backup.delete("a")
    pair.settle()
    pair.same({"mine": "stop;", "yours": "discard;"})


def test_renamed_script_is_renamed_everywhere(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.primary.activate("a")
    pair.settle()
    folder = pair.primary.home / FOLDER
    (folder / "a.sieve").rename(folder / "b.sieve")
    pair.primary.activate("b")
    pair.settle()
    pair.same({"b": "keep;"}, "b")


def test_unchanged_asks_the_bucket_for_nothing(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.settle()
    pair.primary.turn()
    pair.store.fault = DOWN
    SettingsLook(pair.primary.shared).turn()


@pytest.mark.parametrize("lost", ["scripts", "folder", "home", "volume"])
def test_lost_disk_deletes_nothing_and_is_filled_again(pair: Pair, lost: str) -> None:
    for name in ("a", "b", "c"):
        pair.primary.put(name, f"# {name}\nkeep;")
    pair.primary.activate("b")
    pair.settle()
    home = pair.primary.home
    if lost == "scripts":
        for path in (home / FOLDER).glob("*.sieve"):
            path.unlink()
    else:
        shutil.rmtree({"folder": home / FOLDER, "home": home, "volume": pair.primary.mail}[lost])
        pair.primary.mail.mkdir(exist_ok=True)
    pair.settle()
    pair.same({name: f"# {name}\nkeep;" for name in ("a", "b", "c")}, "b")
    assert "scripts put back" in pair.primary.log.getvalue()


def test_lost_disk_and_record_delete_nothing(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.primary.activate("a")
    pair.settle()
    shutil.rmtree(pair.primary.home)
    shutil.rmtree(pair.primary.state / "settings")
    pair.primary.restart()
    pair.settle()
    pair.same({"a": "keep;"}, "a")


def test_script_in_use_that_vanished_is_put_back(pair: Pair) -> None:
    # Pigeonhole refuses to delete the active script, so this was no user.
    pair.primary.put("a", "keep;")
    pair.primary.put("b", "stop;")
    pair.primary.activate("a")
    pair.settle()
    pair.primary.delete("a")
    pair.settle()
    pair.same({"a": "keep;", "b": "stop;"}, "a")
    assert "although it is in use" in pair.primary.log.getvalue()


def test_older_copy_of_the_disk_does_not_undo_what_came_later(pair: Pair, tmp_path: Path) -> None:
    pair.primary.put("a", "# old\nkeep;")
    pair.settle()
    shutil.copytree(pair.primary.home, tmp_path / "copy", symlinks=True)
    pair.backup.put("a", "# new\nkeep;")
    pair.backup.put("b", "stop;")
    pair.settle()
    shutil.rmtree(pair.primary.home)
    shutil.copytree(tmp_path / "copy", pair.primary.home, symlinks=True)
    pair.primary.turn()
    pair.settle()
    pair.same({"a": "# new\nkeep;", "b": "stop;"})


def test_unreadable_folder_is_no_deletion(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.settle()
    folder = pair.primary.home / FOLDER
    shutil.rmtree(folder)
    # A script that is a folder cannot be read, also by root.
    (folder / "a.sieve").mkdir(parents=True)
    with pytest.raises(SettingsTrouble, match=r"ann: .*a\.sieve: cannot be read: Is a directory"):
        pair.primary.turn()
    assert pair.document().live == {"a": "keep;"}
    pair.backup.turn()
    assert pair.backup.scripts() == {"a": "keep;"}


def test_bucket_away_and_back(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.settle()
    pair.store.fault = DOWN
    pair.primary.put("a", "discard;")
    with pytest.raises(SettingsTrouble, match="connection refused"):
        SettingsLook(pair.primary.shared).turn()
    with pytest.raises(SourceUnavailable):
        SettingsPull(pair.primary.shared).turn()
    assert pair.primary.scripts() == {"a": "discard;"}
    pair.store.fault = None
    pair.settle()
    pair.same({"a": "discard;"})


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version":7}', b"\xff" * 100])
def test_damaged_document_is_left_alone_and_scripts_go_on(pair: Pair, damage: bytes) -> None:
    pair.primary.put("a", "keep;")
    pair.primary.activate("a")
    pair.settle()
    pair.store.put(key("ann"), damage)
    pair.primary.put("b", "stop;")
    with pytest.raises(
        SettingsTrouble, match=r"state/mailboxes/ann/settings\.json: settings: .*filters go on"
    ):
        pair.primary.turn()
    with pytest.raises(SettingsTrouble):
        SettingsPull(pair.backup.shared).turn()
    assert pair.store.objects[key("ann")] == damage
    assert pair.backup.scripts() == {"a": "keep;"}
    assert pair.backup.shared.of("ann").active_name == "a"
    pair.store.delete(key("ann"))
    pair.settle()
    pair.same({"a": "keep;", "b": "stop;"}, "a")


def test_damaged_document_of_one_mailbox_holds_no_other_back(pair: Pair) -> None:
    pair.store.put(key("ann"), b"{")
    folder = SieveFolder(pair.primary.mail / "bob")
    folder.write("a", "keep;")
    with pytest.raises(SettingsTrouble):
        pair.primary.turn()
    with pytest.raises(SettingsTrouble):
        pair.backup.turn()
    assert SieveFolder(pair.backup.mail / "bob").read().scripts["a"][0] == "keep;"


def test_mailbox_that_is_added_later_is_shared_too(pair: Pair) -> None:
    pair.settle()
    for server in (pair.primary, pair.backup):
        server.mailboxes.append("carol")
    SieveFolder(pair.primary.mail / "carol").write("a", "keep;")
    pair.settle()
    assert SieveFolder(pair.backup.mail / "carol").read().scripts["a"][0] == "keep;"


def test_damaged_record_is_made_again(pair: Pair) -> None:
    pair.primary.put("a", "keep;")
    pair.settle()
    (pair.primary.state / "settings" / "ann.json").write_text("{")
    pair.primary.restart()
    pair.settle()
    assert "record left out" in pair.primary.log.getvalue()
    pair.same({"a": "keep;"})


def test_link_that_is_a_file_is_left_alone(pair: Pair) -> None:
    pair.primary.home.mkdir()
    (pair.primary.home / LINK).write_text("keep;")
    pair.backup.put("a", "stop;")
    pair.backup.activate("a")
    pair.settle()
    assert (pair.primary.home / LINK).read_text() == "keep;"
    assert pair.primary.scripts() == {"a": "stop;"}
    assert pair.backup.active() == "a"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"#" * (SCRIPT_BYTES + 1), "big: expected at most 262144 octets, got 262145"),
        (b"\xff", "not UTF-8: octet 0"),
    ],
)
def test_script_that_cannot_be_shared_works_here_and_holds_no_other_back(
    pair: Pair, body: bytes, text: str
) -> None:
    pair.primary.put("a", "keep;")
    (pair.primary.home / FOLDER / "big.sieve").write_bytes(body)
    with pytest.raises(SettingsTrouble, match=f"ann: works on this server only: .*{text}"):
        pair.primary.turn()
    pair.backup.turn()
    assert pair.backup.scripts() == {"a": "keep;"}
    assert (pair.primary.home / FOLDER / "big.sieve").read_bytes() == body
    (pair.primary.home / FOLDER / "big.sieve").write_bytes(b"stop;")
    pair.settle()
    pair.same({"a": "keep;", "big": "stop;"})


def test_no_more_scripts_than_the_limit_are_shared(pair: Pair) -> None:
    for number in range(SCRIPTS + 1):
        pair.primary.put(f"s{number:03}", "keep;")
    with pytest.raises(SettingsTrouble, match=rf"s{SCRIPTS:03}: more than {SCRIPTS} scripts"):
        pair.primary.turn()
    assert len(pair.document().live) == SCRIPTS
    assert len(pair.primary.scripts()) == SCRIPTS + 1


def test_senders_are_shared_also_with_a_mailbox_that_has_no_scripts(pair: Pair) -> None:
    pair.primary.shared.remember("ann", "spam@example.com", JUNK)
    pair.settle()
    assert pair.backup.shared.of("ann").sender("spam@example.com") == JUNK
    pair.backup.shared.remember("ann", "spam@example.com", HAM)
    pair.settle()
    assert pair.primary.shared.of("ann").sender("spam@example.com") == HAM
    assert not (pair.primary.home / FOLDER / MARKER).exists()


def test_sender_remembered_while_the_bucket_is_away_survives_a_restart(pair: Pair) -> None:
    pair.store.fault = DOWN
    pair.primary.shared.remember("ann", "spam@example.com", JUNK)
    pair.primary.restart()
    assert pair.primary.shared.of("ann").sender("spam@example.com") == JUNK
    pair.store.fault = None
    pair.settle()
    assert pair.backup.shared.of("ann").sender("spam@example.com") == JUNK


def test_remembering_again_writes_nothing(pair: Pair) -> None:
    pair.primary.shared.remember("ann", "spam@example.com", JUNK)
    pair.settle()
    before = pair.store.get(key("ann"))
    pair.backup.shared.remember("ann", "spam@example.com", JUNK)
    pair.settle()
    assert pair.store.get(key("ann")) == before


def test_announced_change_is_there_at_once_and_any_other_within_five_minutes(pair: Pair) -> None:
    pull = SettingsPull(pair.backup.shared)
    assert pull.seconds <= 300
    assert SettingsLook(pair.backup.shared).seconds <= 5
    chores, stopping = Chores([pull], Log(pair.backup.log)), threading.Event()
    thread = threading.Thread(target=chores.run, args=(stopping,))
    thread.start()
    try:
        until(lambda: chores.status()[pull.name]["turns"] == 1, "the first turn")
        pair.primary.put("a", "keep;")
        SettingsLook(pair.primary.shared).turn()
        chores.poke("state/accounts.json")
        chores.poke(key("ann"))
        until(lambda: pair.backup.scripts() == {"a": "keep;"}, "the script on the other server")
        until(lambda: chores.status()[pull.name]["turns"] == 2, "no more than that turn")
    finally:
        chores.stop()
        thread.join()


class Conflicting(StateSimulator):
    """Somebody else writes between this server's read and its write."""

    def __init__(self) -> None:
        super().__init__()
        self.others: Iterator[bytes] = iter(())

    def replace(self, key: str, data: bytes, etag: str) -> str:
        for other in self.others:
            self.put(key, other)
            break
        return super().replace(key, data, etag)


def test_written_by_another_meanwhile_is_merged(tmp_path: Path) -> None:
    store = Conflicting()
    clock = Clock()
    primary = Server("primary", tmp_path, store, clock)
    primary.put("a", "keep;")
    primary.turn()
    other = Settings.from_bytes(store.objects[key("ann")]).with_script("b", "stop;", 1, "backup")
    store.others = iter([other.to_bytes()])
    primary.put("c", "discard;")
    primary.turn()
    assert primary.scripts() == {"a": "keep;", "b": "stop;", "c": "discard;"}


def test_crash_after_the_bucket_was_written_repeats_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.primary.put("a", "keep;")
    pair.primary.put("b", "keep;")
    pair.settle()
    pair.primary.delete("b")
    pair.primary.put("a", "stop;")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pair.primary.shared, "_save", crash)
        with pytest.raises(KeyboardInterrupt):
            pair.primary.turn()
    written = pair.store.objects[key("ann")]
    pair.primary.restart()
    # Meanwhile the other user's session makes it again; the repeated deletion must not win over that.
    pair.backup.turn()
    pair.backup.put("b", "discard;")
    pair.backup.turn()
    assert written != pair.store.objects[key("ann")]
    pair.settle()
    pair.same({"a": "stop;", "b": "discard;"})


class TwoServers(RuleBasedStateMachine):
    """Whatever users and disks do, both servers end up the same, and what was edited last is there."""

    names = st.sampled_from(["a", "b", "c", "d"])
    sides = st.sampled_from(["primary", "backup"])

    @initialize(folder=st.just(None))
    def begin(self, folder: None) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="settings-"))
        self.pair = Pair(self.folder)
        self.expected: dict[str, str] = {}
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.pair.settle()
            self.pair.same(self.expected, self.pair.document().active_name if self.pair.store.objects else "")
            shutil.rmtree(self.folder)

    def server(self, side: str) -> Server:
        return self.pair.primary if side == "primary" else self.pair.backup

    @rule(side=sides, name=names)
    def edit(self, side: str, name: str) -> None:
        """An edit on a server that knows what was before, as a user sees it."""
        self.pair.settle()
        self.count += 1
        self.expected[name] = f"# {self.count}\nkeep;"
        self.server(side).put(name, self.expected[name])

    @rule(name=names, other=names)
    def edit_two_at_once(self, name: str, other: str) -> None:
        if name != other:
            self.pair.settle()
            self.count += 1
            self.expected |= {name: f"# {self.count}\nkeep;", other: f"# {self.count}\nstop;"}
            self.pair.primary.put(name, self.expected[name])
            self.pair.backup.put(other, self.expected[other])

    @rule(side=sides, name=names)
    def delete(self, side: str, name: str) -> None:
        self.pair.settle()
        if name in self.expected:
            server = self.server(side)
            if server.active() == name:
                server.activate("")
            server.delete(name)
            server.turn()
            del self.expected[name]

    @rule(side=sides, name=names)
    def activate(self, side: str, name: str) -> None:
        self.pair.settle()
        if name in self.expected:
            self.server(side).activate(name)

    @rule(side=sides)
    def lose_the_disk(self, side: str) -> None:
        self.pair.settle()
        shutil.rmtree(self.server(side).home, ignore_errors=True)

    @rule(side=sides)
    def lose_the_records(self, side: str) -> None:
        self.pair.settle()
        shutil.rmtree(self.server(side).state / "settings", ignore_errors=True)
        self.server(side).restart()

    @rule(side=sides)
    def turn(self, side: str) -> None:
        self.server(side).turn()

    @invariant()
    def nothing_in_the_bucket_is_damaged(self) -> None:
        if hasattr(self, "pair") and self.pair.store.objects:
            self.pair.document()


TwoServers.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTwoServers = TwoServers.TestCase


def test_limit_of_the_document_holds_all_scripts_at_their_largest() -> None:
    # A control character takes six octets in JSON; six times all of them would be more, and no script is that.
    assert mailbox_settings.DOCUMENT_BYTES >= SCRIPTS * SCRIPT_BYTES + 4 * 1024 * 1024
