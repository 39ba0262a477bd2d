"""The items of DynamoDB tables in an SQLite file, which outlives the process.

A table that is created again under its name has its items back. Written before a request is answered; it
outlives the process, not a failure of the machine.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TRANSACTION_WRITES = ("Put", "Update", "Delete")

Key = dict[str, Any]


def changed_items(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, Key]]:
    """The (table, item or key) of everything that an answered *request* (DynamoDB JSON) may have changed.

    PartiQL statements name no key and are not followed.
    """
    match operation:
        case "PutItem":
            yield request["TableName"], request["Item"]
        case "UpdateItem" | "DeleteItem":
            yield request["TableName"], request["Key"]
        case "BatchWriteItem":
            for table, writes in request["RequestItems"].items():
                for write in writes:
                    for one in write.values():
                        yield table, one.get("Item") or one["Key"]
        case "TransactWriteItems":
            for action in request["TransactItems"]:
                for kind in TRANSACTION_WRITES:
                    if one := action.get(kind):
                        yield one["TableName"], one.get("Item") or one["Key"]


class ItemRecords:
    """Every item of every table. Calls must not overlap."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
            "CREATE TABLE IF NOT EXISTS item (owner TEXT, key TEXT, item TEXT, PRIMARY KEY (owner, key));"
        )

    def save(self, owner: str, key: Key, item: Mapping[str, Any] | None) -> None:
        """Keep *item* as what the table *owner* holds under *key*; None: nothing."""
        name = json.dumps(key, sort_keys=True)
        if item is None:
            self._database.execute("DELETE FROM item WHERE owner = ? AND key = ?", (owner, name))
        else:
            self._database.execute("REPLACE INTO item VALUES (?, ?, ?)", (owner, name, json.dumps(item)))

    def items(self, owner: str) -> Iterator[dict[str, Any]]:
        """The items of the table *owner*."""
        for (item,) in self._database.execute("SELECT item FROM item WHERE owner = ?", (owner,)):
            yield json.loads(item)

    def forget(self, owner: str) -> None:
        """Drop all items of a table."""
        self._database.execute("DELETE FROM item WHERE owner = ?", (owner,))
