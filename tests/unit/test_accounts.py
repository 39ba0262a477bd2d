"""The accounts: every change, the document, and that no writer takes another one's change back."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.account_store_simulator import AccountStoreSimulator
from twinmail import password
from twinmail.account_store import ATTEMPTS, AccountsChanged, update
from twinmail.accounts import KEY, Accounts, AccountsError, AppPassword, NewerAccounts, checked_user, logins
from twinmail.config import Config

DIGEST = password.digest("correct horse")
OTHER = password.digest("battery staple")
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)

CONFIG = Config.parse(
    'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
    '[mailboxes.ann]\naddresses = ["ann@example.org", "*@example.org", "o\'neil@example.org"]\n'
    '[mailboxes.bob]\naddresses = ["bob@example.org"]\n'
    '[aliases]\n"info@example.org" = ["ann"]\n"team@example.org" = ["ann", "bob"]\n'
    '[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'
)


ACTIONS = st.lists(st.sampled_from(["add", "remove", "passwd", "app", "revoke"]), min_size=1, max_size=8)


def ann() -> Accounts:
    return Accounts().added("ann", DIGEST, ["ann@example.org"], NOW)


def app(label: str, name: str = "abcde") -> AppPassword:
    return AppPassword(label, name, OTHER, NOW)


class TestChanges:
    def test_added(self) -> None:
        user = ann().user("ann")
        assert (user.digest, user.changed, user.logins) == (DIGEST, NOW, ("ann@example.org",))
        assert user.app_passwords == ()

    def test_added_twice_says_how_to_change_the_password(self) -> None:
        with pytest.raises(AccountsError) as error:
            ann().added("ann", OTHER, [], NOW)
        assert str(error.value) == (
            "user 'ann': has an account already; change its password with: ./inv user passwd ann"
        )

    def test_password_changes_alone(self) -> None:
        before = ann().with_app_password("ann", app("phone"))
        after = before.with_password("ann", OTHER, LATER)
        assert (after.user("ann").digest, after.user("ann").changed) == (OTHER, LATER)
        assert after.user("ann").app_passwords == before.user("ann").app_passwords

    def test_removed_and_removed_again(self) -> None:
        gone = ann().without("ann")
        assert gone == Accounts() == gone.without("ann")

    def test_one_app_password_is_revoked_and_the_others_stay(self) -> None:
        before = ann().with_app_password("ann", app("phone")).with_app_password("ann", app("tablet", "bbbbb"))
        after = before.without_app_password("ann", "phone")
        assert [one.label for one in after.user("ann").app_passwords] == ["tablet"]
        assert after.user("ann").digest == DIGEST

    def test_label_taken(self) -> None:
        with pytest.raises(AccountsError, match="app-password revoke ann 'phone'"):
            ann().with_app_password("ann", app("phone")).with_app_password("ann", app("phone", "bbbbb"))

    def test_name_taken(self) -> None:
        with pytest.raises(AccountsError, match="starts with abcde already; try again"):
            ann().with_app_password("ann", app("phone")).with_app_password("ann", app("tablet"))

    def test_unknown_label_names_the_known_ones(self) -> None:
        with pytest.raises(AccountsError, match=r"^user 'ann': no app password 'x'; known: 'phone'$"):
            ann().with_app_password("ann", app("phone")).without_app_password("ann", "x")

    @pytest.mark.parametrize("label", ["", " ", " x", "x ", "a\nb", "a\0", "x" * 65])
    def test_labels_that_are_none(self, label: str) -> None:
        with pytest.raises(AccountsError, match=r"^label "):
            ann().with_app_password("ann", app(label))

    @pytest.mark.parametrize("change", ["with_password", "with_app_password", "without_app_password"])
    def test_unknown_user(self, change: str) -> None:
        arguments: Sequence[object] = {
            "with_password": (OTHER, NOW),
            "with_app_password": (app("phone"),),
            "without_app_password": ("phone",),
        }[change]
        with pytest.raises(AccountsError, match=r"^user 'eve': no such account; known: ann$"):
            getattr(ann(), change)("eve", *arguments)

    def test_digest_of_another_form_is_refused_and_not_shown(self) -> None:
        with pytest.raises(AccountsError, match="got another form") as error:
            ann().with_password("ann", "{PLAIN}secret", NOW)
        assert "secret" not in str(error.value)

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../etc", "a/b", "a:b", "a\nb", "A", "ä", "a" * 65, "rene\n"]
    )
    def test_user_names_that_would_leave_their_folder_or_line(self, name: str) -> None:
        with pytest.raises(AccountsError) as error:
            checked_user(name)
        assert str(error.value) == (
            f"user name {name!r}: expected 1 to 64 lower-case letters, digits, '.', '_' and '-', "
            "the first a letter or digit"
        )


class TestLogins:
    def test_addresses_that_lead_to_one_mailbox_alone(self) -> None:
        assert logins(CONFIG, "ann") == ("ann@example.org", "info@example.org")
        assert logins(CONFIG, "bob") == ("bob@example.org",)

    def test_follow_the_configuration(self) -> None:
        before = ann().added("bob", OTHER, ["info@example.org"], NOW)
        after = before.with_logins(CONFIG)
        assert after.user("ann").logins == ("ann@example.org", "info@example.org")
        assert after.user("bob").logins == ("bob@example.org",)

    def test_an_account_without_a_mailbox_gives_its_address_to_the_new_owner(self) -> None:
        before = Accounts().added("old", OTHER, ["ann@example.org", "old@example.org"], NOW)
        after = before.added("ann", DIGEST, [], NOW).with_logins(CONFIG)
        assert after.user("old").logins == ("old@example.org",)
        assert "ann@example.org" in after.user("ann").logins

    def test_one_login_of_two_users_is_refused(self) -> None:
        with pytest.raises(AccountsError, match=r"login 'ann@example\.org': belongs to 'ann' and 'bob'"):
            ann().added("bob", OTHER, ["ann@example.org"], NOW)


class TestDocument:
    def test_is_canonical(self) -> None:
        both = ann().added("bob", OTHER, [], NOW)
        turned = Accounts(dict(reversed(both.users.items())))
        assert both.to_bytes() == turned.to_bytes()
        assert json.loads(both.to_bytes())["version"] == 1
        assert b" " not in both.to_bytes()

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
            st.dictionaries(st.from_regex(r"[a-z0-9]{5}", fullmatch=True), st.just(None), max_size=4),
            max_size=5,
        ),
        st.datetimes(timezones=st.just(UTC)),
    )
    def test_reads_back(self, users: dict[str, dict[str, None]], moment: datetime) -> None:
        accounts = Accounts()
        for name, apps in users.items():
            accounts = accounts.added(name, DIGEST, [f"{name}@example.org"], moment)
            for number, one in enumerate(apps):
                accounts = accounts.with_app_password(name, app(f"Gerät {number} 📱", one))
        assert Accounts.from_bytes(accounts.to_bytes()) == accounts

    @given(st.binary(max_size=200))
    def test_garbage_is_an_explained_error(self, data: bytes) -> None:
        with pytest.raises(AccountsError, match=rf"^{re.escape(KEY)}: "):
            Accounts.from_bytes(data)

    @given(st.data())
    def test_half_written_is_an_explained_error(self, data: st.DataObject) -> None:
        whole = ann().with_app_password("ann", app("phone")).to_bytes()
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(AccountsError, match=rf"^{re.escape(KEY)}: not JSON"):
            Accounts.from_bytes(whole[:cut])

    def test_newer_version_asks_for_an_update(self) -> None:
        with pytest.raises(NewerAccounts, match=r"version 2 is newer than 1; update twinmail here"):
            Accounts.from_bytes(b'{"version": 2, "users": []}')

    @pytest.mark.parametrize(
        ("path", "value", "problem"),
        [
            ((), 1, "expected an object"),
            (("version",), 0, "expected version 1, got 0"),
            (("users",), [], "users: expected an object"),
            (("users", "ann"), 1, "users.ann: "),
            (("users", "ann", "digest"), "{PLAIN}secret", "users.ann: digest of a password: expected"),
            (("users", "ann", "digest"), None, "users.ann: digest: expected a string"),
            (("users", "ann", "changed"), "yesterday", "users.ann: "),
            (("users", "ann", "changed"), "2026-11-23T12:00:00", "expected a time with a zone"),
            (("users", "ann", "logins"), ["a:b@example.org"], "logins: expected addresses"),
            (("users", "ann", "logins"), "x", "logins: expected a list"),
            (("users", "ann", "app_passwords", 0, "name"), "ab:de", "name: expected 5 letters"),
            (("users", "ann", "app_passwords", 0, "label"), "a\nb", "label: expected"),
            (("users", "ann", "app_passwords", 1), 1, "users.ann: "),
            (("users", "ann", "app_passwords", 1, "label"), "phone", "app_passwords: a label is there twice"),
            (("users", "ann", "app_passwords", 1, "name"), "abcde", "app_passwords: a name is there twice"),
        ],
    )
    def test_damage_is_named_and_no_secret_shown(
        self, path: tuple[str | int, ...], value: object, problem: str
    ) -> None:
        whole = ann().with_app_password("ann", app("phone")).with_app_password("ann", app("tablet", "bbbbb"))
        document = json.loads(whole.to_bytes())
        if path:
            inner = document
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
        else:
            document = value
        with pytest.raises(AccountsError) as error:
            Accounts.from_bytes(json.dumps(document).encode())
        assert problem in str(error.value)
        assert "secret" not in str(error.value)

    @pytest.mark.parametrize("name", ["../x", "a b", "A", ""])
    def test_damaged_names(self, name: str) -> None:
        document = json.loads(ann().to_bytes())
        document["users"][name] = document["users"].pop("ann")
        with pytest.raises(AccountsError, match="user name"):
            Accounts.from_bytes(json.dumps(document).encode())

    def test_digests_are_not_in_the_representation(self) -> None:
        assert "argon2id" not in repr(ann().with_app_password("ann", app("phone")))


class TestUpdate:
    def test_first_document(self) -> None:
        store = AccountStoreSimulator()
        assert update(store, lambda accounts: accounts.added("ann", DIGEST, [], NOW)).user("ann")
        assert store.read().accounts.user("ann").digest == DIGEST

    def test_no_change_writes_nothing(self) -> None:
        store = AccountStoreSimulator()
        update(store, lambda _: ann())
        update(store, lambda accounts: accounts)
        assert store.writes == 1

    def test_other_writer_in_between_is_read_again(self) -> None:
        store = AccountStoreSimulator()
        store.meanwhile = lambda: update_with(store, "bob")
        update_with(store, "ann")
        assert set(store.read().accounts.users) == {"ann", "bob"}

    def test_gives_up_on_writers_that_never_end(self) -> None:
        class Busy(AccountStoreSimulator):
            def write(self, accounts: Accounts, etag: str | None) -> None:
                self.writes += 1
                raise AccountsChanged("somebody else wrote first")

        store = Busy()
        with pytest.raises(AccountsChanged):
            update_with(store, "ann")
        assert store.writes == ATTEMPTS

    def test_a_damaged_document_is_not_written_over(self) -> None:
        store = AccountStoreSimulator()
        store.data = b"{"
        with pytest.raises(AccountsError, match="not JSON"):
            update_with(store, "ann")
        assert store.data == b"{"

    @given(ACTIONS, ACTIONS, st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=20, max_size=20))
    def test_no_interleaving_of_two_writers_loses_a_change(
        self, first: list[str], second: list[str], turns: list[tuple[bool, int]]
    ) -> None:
        """Each writer changes an account of its own; what comes out is what each would have made alone."""
        store = AccountStoreSimulator()
        waiting = [list(enumerate(first)), list(enumerate(second))]

        def act(who: int) -> None:
            number, action = waiting[who].pop(0)
            update(store, lambda accounts: changed(accounts, ("ann", "bob")[who], action, number))

        for turn, between in [*turns, *[(False, 0), (True, 0)] * 10]:
            who = int(turn)
            if waiting[who]:
                # So many changes of the other one come between this one's read and its write.
                store.meanwhile = lambda other=1 - who, count=between: [
                    act(other) for _ in range(min(count, len(waiting[other])))
                ]
                act(who)
                store.meanwhile = None
        assert not any(waiting)
        assert store.read().accounts.users == {**alone("ann", first).users, **alone("bob", second).users}


def update_with(store: AccountStoreSimulator, name: str) -> None:
    update(store, lambda accounts: accounts.added(name, DIGEST, [], NOW))


def changed(accounts: Accounts, name: str, action: str, number: int) -> Accounts:
    """*accounts* after one action on one user; one that cannot be made changes nothing."""
    labels = [one.label for one in accounts.users[name].app_passwords] if name in accounts.users else []
    try:
        if action == "add":
            return accounts.added(name, DIGEST, [f"{name}@example.org"], NOW)
        if action == "remove":
            return accounts.without(name)
        if action == "passwd":
            return accounts.with_password(name, OTHER, LATER)
        if action == "app":
            return accounts.with_app_password(name, app(f"device {number}", f"app{number:02}"))
        return accounts.without_app_password(name, labels[0] if labels else "none")
    except AccountsError:
        return accounts


def alone(name: str, actions: list[str]) -> Accounts:
    accounts = Accounts()
    for number, action in enumerate(actions):
        accounts = changed(accounts, name, action, number)
    return accounts
