"""Which values of records only this project can have made, so that it may replace them; pure.

Whatever else is there is somebody's, and stays.
"""

from collections.abc import Collection

from twinmail.config import Config
from twinmail.dns import value
from twinmail.dns.record_set import RecordSet
from twinmail.dns.wanted import below

_SPF_WORDS = 3


def is_ours(config: Config, record: RecordSet, text: str) -> bool:
    """Whether *text*, a value at the name and of the type of *record*, is one of ours from earlier."""
    hosts = {one.host.lower().rstrip(".") for one in config.servers.values()}
    target = text.split()[-1] if text.split() else ""
    if record.type == "MX":
        return _service(target, "inbound-smtp.", "amazonaws.com.") or _service(
            target, "feedback-smtp.", "amazonses.com."
        )
    if record.type == "SRV":
        return target == "." or target[:-1] in hosts or _service(target, "email-smtp.", "amazonaws.com.")
    if record.type == "TXT":
        return _text(config, record, text)
    if record.name in hosts:
        # The configuration says that this is the name of a server, and where that is.
        return record.type in ("A", "AAAA", "CNAME")
    if record.type == "CNAME":
        return target[:-1] in hosts or target.endswith(".amazonses.com.")
    return False


def _service(target: str, begin: str, end: str) -> bool:
    return target.startswith(begin) and target.endswith(f".{end}")


def _text(config: Config, record: RecordSet, text: str) -> bool:
    kind = value.protocol(record.values[0])
    if value.protocol(text) != kind:
        return False
    if kind == value.SPF:
        words = text.lower().split()
        return len(words) == _SPF_WORDS and words[1] == "include:amazonses.com" and words[2].endswith("all")
    tags = value.tags(text)
    if not set(tags) <= {"v", "p", "rua", "id"}:
        return False
    return all(_reports_here(config, one) for one in tags.get("rua", "").split(",") if one)


def _reports_here(config: Config, address: str) -> bool:
    known: Collection[str] = config.domains
    home = address.removeprefix("mailto:").rpartition("@")[2].lower()
    own = (config.operator or "").lower().rpartition("@")[2]
    return home == own or any(below(home, one) for one in known)
