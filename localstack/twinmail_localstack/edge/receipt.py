"""Receipt rules: which recipients a rule matches, and which actions follow in which order. Pure.

Source: SES Developer Guide, "Email receiving concepts" and "Creating receipt rules".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class AddHeader:
    """Add a header field to the message, for the actions that follow."""

    name: str
    value: str


@dataclass(frozen=True)
class Bounce:
    """Send the sender a delivery status notification (RFC 3464)."""

    reply_code: str
    status: str
    message: str
    sender: str
    topic: str | None = None


@dataclass(frozen=True)
class Lambda:
    """Invoke a function; *wait* (RequestResponse) lets it stop the rule or the rule set."""

    function: str
    wait: bool = False
    topic: str | None = None


@dataclass(frozen=True)
class S3:
    """Store the message as ``<prefix><SES message id>``."""

    bucket: str
    prefix: str = ""
    topic: str | None = None
    kms_key: str | None = None


@dataclass(frozen=True)
class Sns:
    """Publish the message, content included, to a topic."""

    topic: str
    encoding: str = "UTF-8"


@dataclass(frozen=True)
class Stop:
    """End the rule set."""

    topic: str | None = None


@dataclass(frozen=True)
class Ignored:
    """An action of SES that has no meaning here (WorkMail, Connect)."""

    kind: str


Action = AddHeader | Bounce | Lambda | S3 | Sns | Stop | Ignored


class Disposition(Enum):
    """What a synchronously invoked function may answer."""

    CONTINUE = "CONTINUE"
    STOP_RULE = "STOP_RULE"
    STOP_RULE_SET = "STOP_RULE_SET"

    @classmethod
    def of(cls, answer: Any) -> "Disposition":
        """Read a function's *answer*; whatever is not a disposition means CONTINUE, as in SES."""
        word = answer.get("disposition") if isinstance(answer, dict) else None
        try:
            return cls(word.upper()) if isinstance(word, str) else cls.CONTINUE
        except ValueError:
            return cls.CONTINUE


@dataclass(frozen=True)
class Rule:
    """One receipt rule.

    Attributes:
        recipients: conditions; empty means every address of the verified domains.
        scan: look for spam and viruses.
        require_tls: refuse the message unless the session is encrypted.
    """

    name: str
    recipients: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    enabled: bool = False
    scan: bool = False
    require_tls: bool = False

    @classmethod
    def from_api(cls, document: Document) -> "Rule":
        """Read a ``ReceiptRule`` of the SES API."""
        return cls(
            name=document["Name"],
            recipients=tuple(document.get("Recipients") or ()),
            actions=tuple(_action(one) for one in document.get("Actions") or ()),
            enabled=bool(document.get("Enabled", False)),
            scan=bool(document.get("ScanEnabled", False)),
            require_tls=document.get("TlsPolicy") == "Require",
        )


@dataclass(frozen=True)
class Step:
    """One action of one matching rule, with the recipients that the rule matched."""

    rule: str
    recipients: tuple[str, ...]
    action: Action


@dataclass(frozen=True)
class RuleSet:
    """The active receipt rule set.

    Attributes:
        domains: verified domain identities, for rules without a condition.
    """

    rules: tuple[Rule, ...] = ()
    domains: tuple[str, ...] = ()

    @classmethod
    def from_api(cls, rules: Iterable[Document], domains: Iterable[str]) -> "RuleSet":
        """Read the rules of ``DescribeActiveReceiptRuleSet`` (none at all: nothing is accepted)."""
        return cls(tuple(Rule.from_api(one) for one in rules), tuple(domains))

    def matching(self, recipient: str) -> tuple[Rule, ...]:
        """The enabled rules that match *recipient*, in order."""
        return tuple(rule for rule in self.rules if rule.enabled and self._matches(rule, recipient))

    def _matches(self, rule: Rule, recipient: str) -> bool:
        if rule.recipients:
            return any(matches(condition, recipient) for condition in rule.recipients)
        return any(matches(form, recipient) for domain in self.domains for form in (domain, f".{domain}"))

    def plan(self, recipients: Sequence[str]) -> tuple[Step, ...]:
        """The actions for a message to *recipients*: all matching rules, each once for all it matches."""
        steps: list[Step] = []
        for rule in self.rules:
            matched = tuple(one for one in recipients if rule.enabled and self._matches(rule, one))
            if matched:
                steps += [Step(rule.name, matched, action) for action in rule.actions]
        return tuple(steps)

    def scans(self, recipients: Sequence[str]) -> bool:
        """Whether any matching rule wants the message scanned."""
        return any(rule.scan for one in recipients for rule in self.matching(one))


def matches(condition: str, recipient: str) -> bool:
    """Whether the recipient condition of a rule matches *recipient*.

    ``user@example.com`` matches the address, with or without a label (``user+label@``); with a label in the
    condition only that form. ``example.com`` matches the domain without its subdomains, ``.example.com``
    the subdomains without the domain. Case is ignored.
    """
    condition, recipient = condition.lower(), recipient.lower()
    local, _, domain = recipient.rpartition("@")
    if "@" in condition:
        return condition in (recipient, f"{local.partition('+')[0]}@{domain}")
    if condition.startswith("."):
        return domain.endswith(condition) and domain != condition
    return domain == condition


def following(steps: Sequence[Step], position: int, disposition: Disposition) -> int:
    """The position of the step after *position*; ``len(steps)`` is the end."""
    if disposition is Disposition.STOP_RULE_SET:
        return len(steps)
    if disposition is Disposition.STOP_RULE:
        rule = steps[position].rule
        return next((i for i in range(position, len(steps)) if steps[i].rule != rule), len(steps))
    return position + 1


def _action(document: Document) -> Action:
    """Read a ``ReceiptAction`` of the SES API: an object with one member, named after the kind."""
    kind = next(iter(document), "")
    body: Document = document.get(kind, {})
    match kind:
        case "AddHeaderAction":
            return AddHeader(body["HeaderName"], body["HeaderValue"])
        case "BounceAction":
            return Bounce(
                reply_code=body["SmtpReplyCode"],
                status=body.get("StatusCode") or "5.0.0",
                message=body["Message"],
                sender=body["Sender"],
                topic=body.get("TopicArn"),
            )
        case "LambdaAction":
            wait = body.get("InvocationType") == "RequestResponse"
            return Lambda(body["FunctionArn"], wait, body.get("TopicArn"))
        case "S3Action":
            return S3(
                body["BucketName"],
                body.get("ObjectKeyPrefix") or "",
                body.get("TopicArn"),
                body.get("KmsKeyArn"),
            )
        case "SNSAction":
            return Sns(body["TopicArn"], body.get("Encoding") or "UTF-8")
        case "StopAction":
            return Stop(body.get("TopicArn"))
    return Ignored(kind)
