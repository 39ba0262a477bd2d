"""A TOML table that is read strictly: what is asked for is checked, what is not asked for is a problem."""

import re
from collections.abc import Mapping
from typing import Any

_MODE = re.compile(r"0[0-7]{3,4}")


class Table:
    """One table of a TOML document; all tables of a document share one list of problems.

    Attributes:
        problems: one line each, ``<source>: <key>: <what is wrong>``.
    """

    def __init__(self, source: str, prefix: str, body: Mapping[str, Any], problems: list[str] | None = None):
        self.source = source
        self.prefix = prefix
        self.problems: list[str] = [] if problems is None else problems
        self._body = body
        self._asked: list[str] = []

    def names(self) -> tuple[str, ...]:
        """The keys present."""
        return tuple(self._body)

    def problem(self, key: str, text: str) -> None:
        """Record that *key* of this table is wrong."""
        self.problems.append(f"{self.source}: {self.prefix}{key}: {text}")

    def finish(self) -> None:
        """Report every key that nobody asked for."""
        for key in self._body:
            if key not in self._asked:
                self.problem(key, f"unknown key; known here: {', '.join(self._asked)}")

    def text(self, key: str, default: str = "", required: bool = False) -> str:
        """A string; *default* if it is absent."""
        value = self._get(key)
        if value is None:
            if required:
                self.problem(key, "missing; expected a string")
            return default
        if not isinstance(value, str) or (required and not value):
            self.problem(key, f"expected a string, got {value!r}")
            return default
        return value

    def number(self, key: str, default: int | None) -> int:
        """A number of at least 0; *default* if it is absent, a problem if that is None."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            got = "missing; expected a number" if value is None else f"expected a number, got {value!r}"
            self.problem(key, got)
            return 0
        return value

    def mode(self, key: str, default: int) -> int:
        """File permissions, written as an octal string (``"0755"``): TOML numbers have no leading zero."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, str) or not _MODE.fullmatch(value):
            self.problem(key, f'expected octal permissions such as "0755", got {value!r}')
            return default
        return int(value, 8)

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of different strings; empty if it is absent."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.problem(key, f"expected a list of strings, got {value!r}")
            return ()
        return tuple(value)

    def pairs(self, key: str) -> dict[str, str]:
        """A table of strings; empty if it is absent."""
        value = self._get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            self.problem(key, f"expected a table of strings, got {value!r}")
            return {}
        return dict(value)

    def table(self, key: str) -> "Table":
        """The table under *key*; an empty one if it is absent."""
        value = self._get(key)
        if value is not None and not isinstance(value, dict):
            self.problem(key, f"expected a table, got {value!r}")
            value = None
        return Table(self.source, f"{self.prefix}{key}.", value or {}, self.problems)

    def tables(self, key: str) -> tuple["Table", ...]:
        """The array of tables under *key*; empty if it is absent."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.problem(key, f"expected an array of tables ([[{key}]]), got {value!r}")
            return ()
        return tuple(
            Table(self.source, f"{self.prefix}{key}[{index}].", one, self.problems)
            for index, one in enumerate(value)
        )

    def _get(self, key: str) -> Any:
        if key not in self._asked:
            self._asked.append(key)
        return self._body.get(key)
