"""What other servers say of their folders: those that cannot run here, by what they are known to answer."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from imapclient.exceptions import IMAPClientError

from twinmail.importing.account import ImapAccount, Login
from twinmail.importing.folder_map import plan
from twinmail.importing.source import Folder, SourceBroken

Listed = tuple[tuple[bytes, ...], bytes | None, str]


@dataclass
class Client:
    """What `ImapAccount` asks about folders."""

    listed: list[Listed]
    prefix: str | None = ""
    capabilities: set[str] = field(default_factory=set)

    def has_capability(self, name: str) -> bool:
        return name in self.capabilities or (name == "NAMESPACE" and self.prefix is not None)

    def namespace(self) -> Any:
        others = (("user.", "."),) if self.prefix else None
        return SimpleNamespace(personal=((self.prefix, "."),), other=others, shared=(("", "."),))

    def list_folders(self) -> list[Listed]:
        return self.listed

    def folder_status(self, name: str, items: list[str]) -> dict[bytes, int]:
        if name == "Broken":
            raise IMAPClientError("STATUS failed")
        return {one.encode(): 7 for one in items}


def folders(client: Client, *only: str) -> list[Folder]:
    account = ImapAccount(Login("imap.example.com", 993, "ann", "secret", None), 1000, only)
    account._client = client
    return list(account.folders())


def targets(client: Client) -> dict[str, str]:
    return {folder.key: target for folder, target in plan(folders(client)).items()}


def test_all_folders_below_inbox_as_courier_and_cyrus_have_them() -> None:
    client = Client(
        [
            ((b"\\HasChildren",), b".", "INBOX"),
            ((b"\\HasNoChildren",), b".", "INBOX.Sent"),
            ((b"\\HasNoChildren",), b".", "INBOX.Projekte.Übersicht"),
            ((b"\\Noselect",), b".", "INBOX.Projekte"),
            ((b"\\HasNoChildren",), b".", "user.bob.Shared"),
        ],
        prefix="INBOX.",
    )
    assert targets(client) == {
        "INBOX": "INBOX",
        "INBOX.Sent": "Sent",
        "INBOX.Projekte.Übersicht": "Projekte/Übersicht",
    }, "a folder of another user is not this account's"
    assert [one.key for one in folders(client, "user.bob.Shared")] == ["user.bob.Shared"]


def test_folders_of_gmail_in_its_users_language() -> None:
    client = Client(
        [
            ((b"\\HasNoChildren",), b"/", "INBOX"),
            ((b"\\HasChildren", b"\\Noselect"), b"/", "[Gmail]"),
            ((b"\\All", b"\\HasNoChildren"), b"/", "[Gmail]/Alle Nachrichten"),
            ((b"\\Flagged", b"\\HasNoChildren"), b"/", "[Gmail]/Markiert"),
            ((b"\\HasNoChildren", b"\\Sent"), b"/", "[Gmail]/Gesendet"),
            ((b"\\HasNoChildren", b"\\Junk"), b"/", "[Gmail]/Spam"),
            ((b"\\HasNoChildren",), b"/", "Rechnungen/2019"),
        ]
    )
    found = targets(client)
    assert found == {
        "INBOX": "INBOX",
        "Rechnungen/2019": "Rechnungen/2019",
        "[Gmail]/Gesendet": "Sent",
        "[Gmail]/Spam": "Junk",
        "[Gmail]/Alle Nachrichten": "Archive",
    }
    assert next(iter(found)) == "INBOX" and list(found)[-1] == "[Gmail]/Alle Nachrichten"


def test_server_without_levels_namespaces_or_sizes() -> None:
    client = Client([((), None, "a/b"), ((), None, "INBOX"), ((), None, "Broken")], prefix=None)
    assert folders(client) == [
        Folder(("INBOX",), "", 7, None, "INBOX"),
        Folder(("Broken",), "", None, None, "Broken"),
        Folder(("a/b",), "", 7, None, "a/b"),
    ]
    assert targets(client)["a/b"] == "a_b"


def test_folders_that_were_asked_for() -> None:
    client = Client([((), b"/", "INBOX"), ((), b"/", "Old")], capabilities={"STATUS=SIZE"})
    assert folders(client, "Old") == [Folder(("Old",), "", 7, 7, "Old")]
    with pytest.raises(SourceBroken, match="no folder 'old'; it has: INBOX, Old"):
        folders(client, "old")
