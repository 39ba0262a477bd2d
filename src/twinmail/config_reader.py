"""From a TOML document to the configuration: every problem of it at once, one line each."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from twinmail.config import Config, Limits, Mailbox, Server
from twinmail.errors import ConfigError
from twinmail.production_reader import MACHINE, ProductionReader

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_STACK = re.compile(r"[a-z][a-z0-9-]{0,31}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SERVER = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"({_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]")
# RFC 5321 dot-string; quoted local parts are legal but nobody owns one, and SES rules cannot hold them.
_LOCAL = re.compile(r"[a-z0-9!#$%&'/=?^_`{|}~-]+(\.[a-z0-9!#$%&'/=?^_`{|}~-]+)*")
# The IAM user of the webmail has it (`twinmail.smtp_credentials.WEBMAIL`).
RESERVED = "webmail"
_PLATFORMS = ("linux/amd64", "linux/arm64")
_SWITCHES = ("webmail", "submission", "full_text_search")
# At least one message of the largest size, so that an empty mailbox takes any.
_QUOTA = (40 * 1024 * 1024, 1 << 50)


class Reader:
    """Turns a document into a `Config`, and collects what is wrong on the way; *source* names it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []

    def read(self, document: Mapping[str, Any]) -> Config:
        """The configuration that *document* is.

        Raises:
            ConfigError: all problems together, one line each.
        """
        known = tuple(Config.__dataclass_fields__)
        self._unknown("", document, known)
        region = self._text(document, "region", _REGION, "an AWS region such as eu-central-1")
        stack = self._text(document, "stack", _STACK, "lower-case letters, digits and '-'")
        bucket = self._text(document, "bucket", _BUCKET, "3 to 63 lower-case letters, digits and '-'")
        domains = self._domains(document.get("domains"))
        owners: dict[str, str] = {}
        mailboxes = self._mailboxes(document.get("mailboxes"), domains, owners)
        aliases = self._aliases(document.get("aliases", {}), domains, mailboxes, owners)
        servers = self._servers(document.get("servers"), region)
        limits = self._limits(document.get("limits", {}))
        production = ProductionReader(self._problem)
        operator = production.operator(document.get("operator"))
        budget = production.budget(document.get("budget", {}))
        retention = production.retention(document.get("retention", {}))
        dns = production.dns(document.get("dns", {}))
        usage = production.usage(document.get("usage", {}))
        packs = production.packs(document.get("packs", {}))
        names = {*domains, *(one.host.lower() for one in servers.values())}
        for domain in domains:
            if (taken := f"{dns.mail_from}.{domain}") in names:
                # Its MX record leads to SES alone.
                self._problem(
                    "dns.mail_from", f"{taken} is a domain or a server; expected a label not in use"
                )
        if self.problems:
            raise ConfigError(self.source, self.problems)
        return Config(
            region,
            stack,
            bucket,
            domains,
            mailboxes,
            aliases,
            servers,
            limits,
            operator,
            budget,
            retention,
            dns,
            usage,
            packs,
        )

    def _problem(self, key: str, text: str) -> None:
        self.problems.append(f"{self.source}: {key}: {text}")

    def _unknown(self, prefix: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                self._problem(f"{prefix}{key}", f"unknown key; known here: {', '.join(known)}")

    def _text(
        self, table: Mapping[str, Any], key: str, pattern: re.Pattern[str], expected: str, prefix: str = ""
    ) -> str:
        value = table.get(key)
        if value is None:
            self._problem(prefix + key, f"missing; expected {expected}")
        elif not isinstance(value, str) or not pattern.fullmatch(value):
            self._problem(prefix + key, f"expected {expected}, got {value!r}")
        else:
            return value
        return ""

    def _table(self, key: str, value: Any, required: bool = True) -> Mapping[str, Any]:
        if value is None and required:
            self._problem(key, "missing; at least one is needed")
        elif not isinstance(value, dict):
            self._problem(key, f"expected a table, got {value!r}")
        elif required and not value:
            self._problem(key, "empty; at least one is needed")
        else:
            return value
        return {}

    def _strings(self, key: str, value: Any) -> tuple[str, ...]:
        """A list of strings, in lower case: domains and (by custom) local parts ignore case."""
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            self._problem(key, f"expected a list of strings with at least one, got {value!r}")
            return ()
        return tuple(one.lower() for one in value)

    def _domains(self, value: Any) -> tuple[str, ...]:
        if value is None:
            self._problem("domains", "missing; expected a list of domains")
            return ()
        seen: list[str] = []
        for domain in self._strings("domains", value):
            if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
                self._problem("domains", f"{domain!r} is not a domain (write an international one as xn--…)")
            elif domain in seen:
                self._problem("domains", f"{domain!r} is listed twice")
            else:
                seen.append(domain)
        return tuple(seen)

    def _address(self, key: str, address: str, domains: tuple[str, ...], wildcard: bool) -> bool:
        local, at, domain = address.rpartition("@")
        catch_all = local == "*" and wildcard
        if not at or not (catch_all or (local.isascii() and _plain_local(local))):
            form = "user@domain or *@domain" if wildcard else "user@domain"
            self._problem(key, f"{address!r} is not an address; expected {form}")
        elif domain not in domains:
            self._problem(key, f"{address!r}: domain {domain!r} is not in domains")
        else:
            return True
        return False

    def _own(self, key: str, address: str, owners: dict[str, str]) -> None:
        if address in owners:
            self._problem(key, f"{address!r} already belongs to {owners[address]}")
        else:
            owners[address] = key

    def _mailboxes(self, value: Any, domains: tuple[str, ...], owners: dict[str, str]) -> dict[str, Mailbox]:
        mailboxes: dict[str, Mailbox] = {}
        for name, body in self._table("mailboxes", value).items():
            key = f"mailboxes.{name}"
            if not _NAME.fullmatch(name):
                self._problem(key, "expected a name of lower-case letters, digits, '.', '_' and '-'")
            if name == RESERVED:
                self._problem(key, "the webmail's own name; choose another")
            body = self._table(key, body)
            self._unknown(f"{key}.", body, ("addresses", "full_name", "quota_bytes"))
            addresses = self._strings(f"{key}.addresses", body.get("addresses")) if body else ()
            good = [one for one in addresses if self._address(f"{key}.addresses", one, domains, True)]
            for address in good:
                self._own(f"{key}.addresses", address, owners)
            quota = self._quota(f"{key}.quota_bytes", body.get("quota_bytes"))
            full_name = self._full_name(f"{key}.full_name", body.get("full_name", ""))
            mailboxes[name] = Mailbox(name, tuple(good), quota, full_name)
        return mailboxes

    def _quota(self, key: str, value: Any) -> int | None:
        if value is None or (type(value) is int and _QUOTA[0] <= value <= _QUOTA[1]):
            return value
        self._problem(key, f"expected a number {_QUOTA[0]} to {_QUOTA[1]}, got {value!r}")
        return None

    def _full_name(self, key: str, value: Any) -> str:
        # It becomes part of a header: one line, and of a length that a line of a header takes.
        if isinstance(value, str) and len(value) <= 128 and value.isprintable():
            return value
        self._problem(key, f"expected at most 128 printable characters, got {value!r}")
        return ""

    def _aliases(
        self, value: Any, domains: tuple[str, ...], mailboxes: Mapping[str, Mailbox], owners: dict[str, str]
    ) -> dict[str, tuple[str, ...]]:
        aliases: dict[str, tuple[str, ...]] = {}
        for written, targets in self._table("aliases", value, required=False).items():
            address, key = written.lower(), f'aliases."{written}"'
            names = self._strings(key, targets)
            for name in names:
                if name not in mailboxes:
                    known = ", ".join(mailboxes) or "none"
                    self._problem(key, f"unknown mailbox {name!r}; known: {known}")
            if self._address(key, address, domains, False):
                self._own(key, address, owners)
            aliases[address] = tuple(dict.fromkeys(names))
        return aliases

    def _servers(self, value: Any, region: str) -> dict[str, Server]:
        servers: dict[str, Server] = {}
        for name, body in self._table("servers", value).items():
            key = f"servers.{name}"
            if not _SERVER.fullmatch(name):
                self._problem(key, "expected a name of lower-case letters, digits and '-'")
            body = self._table(key, body)
            self._unknown(f"{key}.", body, ("platform", "host", *_SWITCHES, *MACHINE))
            platform = body.get("platform")
            if platform not in _PLATFORMS:
                self._problem(f"{key}.platform", f"expected {' or '.join(_PLATFORMS)}, got {platform!r}")
            host = self._text(body, "host", _DOMAIN, "a host name", f"{key}.")
            values: dict[str, Any] = ProductionReader(self._problem).machine(f"{key}.", body, region)
            for switch in _SWITCHES:
                value = body.get(switch, getattr(Server, switch))
                if not isinstance(value, bool):
                    self._problem(f"{key}.{switch}", f"expected true or false, got {value!r}")
                values[switch] = value is True
            servers[name] = Server(name, str(platform), host, **values)
        return servers

    def _limits(self, value: Any) -> Limits:
        defaults = Limits()
        table = self._table("limits", value, required=False)
        self._unknown("limits.", table, tuple(Limits.__dataclass_fields__))
        numbers = {}
        for name, smallest, largest in (
            ("message_bytes", 1024, 40 * 1024 * 1024),
            ("parallel_downloads", 1, 256),
            ("download_bytes", 40 * 1024 * 1024, 1 << 40),
            ("quota_bytes", *_QUOTA),
        ):
            number = table.get(name, getattr(defaults, name))
            if not isinstance(number, int) or isinstance(number, bool) or not smallest <= number <= largest:
                self._problem(f"limits.{name}", f"expected a number {smallest} to {largest}, got {number!r}")
            else:
                numbers[name] = number
        return Limits(**numbers)


def _plain_local(local: str) -> bool:
    """Whether *local* is a local part we can own, a tag (``user+tag``) allowed."""
    return len(local) <= 64 and all(_LOCAL.fullmatch(part) for part in local.split("+", 1))
