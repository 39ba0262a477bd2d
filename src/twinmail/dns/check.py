"""Compare what name servers answer with what must be there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from twinmail.dns import value
from twinmail.dns.answer import SERVFAIL, Answer, Question
from twinmail.dns.finding import Finding, State
from twinmail.dns.record_set import RecordSet

ADD = "add it, as ./inv dns --zone prints it"
_FAMILIES = {"A": "AAAA", "AAAA": "A"}


class Asker(Protocol):
    """Somebody who asks name servers; see `twinmail.dns.resolver.Resolver`."""

    def ask(self, questions: Iterable[Question]) -> Mapping[Question, Answer]:
        """The answer to each of *questions*, also where there is none (`Answer.failure`)."""


def check(
    records: Sequence[RecordSet], resolver: Asker, certificate_names: Iterable[str] = ()
) -> tuple[Finding, ...]:
    """Ask *resolver*, and compare; see `compare`."""
    names = tuple(certificate_names)
    return compare(records, resolver.ask(questions(records, names)), names)


def questions(records: Sequence[RecordSet], certificate_names: Sequence[str] = ()) -> tuple[Question, ...]:
    """What must be asked for `compare`, each question once."""
    found: list[Question] = []
    for one in records:
        found.append(one.key)
        if one.type == "CNAME":
            # Some providers put addresses in the place of a CNAME.
            found.append((one.name, "A"))
        elif one.type in _FAMILIES:
            found.append((one.name, _FAMILIES[one.type]))
    found += [(name, "CAA") for name in certificate_names]
    return tuple(dict.fromkeys(found))


def compare(
    records: Sequence[RecordSet], answers: Mapping[Question, Answer], certificate_names: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """One finding a record set, in their order, then one for each name where something is in the way; pure.

    Args:
        answers: to all of `questions`.
        certificate_names: names that need certificates; a CAA record there may forbid them.
    """
    keys = {one.key for one in records}
    found = [_with_cache(one, answers) for one in records]
    for one in records:
        other = _FAMILIES.get(one.type)
        if other is None or (one.name, other) in keys:
            continue
        strays = answers[one.name, other]
        if strays.values and not strays.alias:
            remedy = f"clients connect there too; remove it, or add it to the addresses of {one.purpose}"
            found.append(Finding(one.name, other, State.WRONG, (), strays.values, one.purpose, remedy))
    authorities = tuple(dict.fromkeys(text for one in records if one.type == "CAA" for text in one.values))
    for name in dict.fromkeys(certificate_names):
        answer = answers[name, "CAA"]
        # What a CNAME leads to has a line of its own.
        if authorities and (name, "CAA") not in keys and answer.alias.rstrip(".") not in certificate_names:
            found += _forbidden(name, authorities, answer)
    return tuple(found)


def _with_cache(record: RecordSet, answers: Mapping[Question, Answer]) -> Finding:
    found, cached = _judge(record, answers), answers[record.key].cached
    if not found.right or cached is None:
        return found
    if cached.failure.startswith(SERVFAIL):
        remedy = (
            "the domain's own name servers answer, but a resolver does not believe them; "
            "check the delegation and DNSSEC (the DS record) at the registrar"
        )
        return replace(found, state=State.UNANSWERED, remedy=remedy, note=cached.failure)
    if cached.failure:
        return found
    seen = _judge(record, {**answers, record.key: cached})
    if seen.right:
        return found
    old = ", ".join(seen.got) or "none"
    return replace(
        found, note=f"a resolver still has an older answer ({old}), until its time to live is over"
    )


def _judge(record: RecordSet, answers: Mapping[Question, Answer]) -> Finding:
    answer = answers[record.key]
    unknown = Finding(record.name, record.type, State.UNANSWERED, record.values, (), record.purpose)
    if answer.failure:
        return replace(unknown, remedy=f"{answer.failure}; ask again, or ask another: --resolver IP")
    if record.type == "CNAME":
        return _alias(record, unknown, answer, answers[record.name, "A"])
    if answer.alias:
        return replace(
            unknown,
            state=State.WRONG,
            got=(f"CNAME {answer.alias}",),
            remedy="a CNAME stands alone at its name (RFC 1034, 3.6.2); remove it, then add this record",
        )
    if record.type == "TXT":
        return _text(record, unknown, answer)
    if record.type == "CAA":
        return _authority(record, unknown, answer)
    return _same(record, unknown, answer.values)


def _alias(record: RecordSet, unknown: Finding, answer: Answer, other: Answer) -> Finding:
    if record.any_one and len(answer.values) == 1 and answer.values[0] in record.values:
        first = answer.values[0] == record.values[0]
        note = "" if first else f"answers {answer.values[0]}, for the first server is not healthy"
        return replace(unknown, state=State.RIGHT, got=answer.values, note=note)
    if not answer.values and other.values and not other.alias:
        remedy = "addresses stand where the CNAME belongs; remove them, then add it"
        return replace(unknown, state=State.WRONG, got=other.values, remedy=remedy)
    return _same(record, unknown, answer.values)


def _text(record: RecordSet, unknown: Finding, answer: Answer) -> Finding:
    """A TXT record of one protocol; others at its name are none of our business."""
    expected = record.values[0]
    kind = value.protocol(expected)
    got = tuple(one for one in answer.values if value.protocol(one) == kind)
    if len(got) > 1:
        remedy = f"there are {len(got)} records {kind}, and receivers then use none; keep one, with all in it"
        return replace(unknown, state=State.WRONG, got=got, remedy=remedy)
    if got and not value.does("TXT", expected, got[0]):
        if kind != value.SPF:
            return replace(unknown, state=State.WRONG, got=got, remedy="replace it")
        mechanism = next(one for one in expected.split() if one.startswith("include:"))
        remedy = f"put {mechanism} into it, and ~all or -all at its end; a second record would break both"
        return replace(unknown, state=State.WRONG, got=got, remedy=remedy)
    return _same(record, unknown, got)


def _authority(record: RecordSet, unknown: Finding, answer: Answer) -> Finding:
    if any(value.does("CAA", record.values[0], one) for one in answer.values):
        return replace(unknown, state=State.RIGHT, got=answer.values)
    if any(value.issuer(one) is not None for one in answer.values):
        remedy = "it forbids the authority that our certificates come from; add ours beside it"
        return replace(unknown, state=State.WRONG, got=answer.values, remedy=remedy)
    return replace(unknown, state=State.MISSING, got=answer.values, remedy=ADD)


def _same(record: RecordSet, unknown: Finding, got: tuple[str, ...]) -> Finding:
    absent = [one for one in record.values if not any(value.does(record.type, one, it) for it in got)]
    strange = [one for one in got if not any(value.does(record.type, it, one) for it in record.values)]
    if not got:
        return replace(unknown, state=State.MISSING, remedy=ADD)
    if not absent and not strange:
        return replace(unknown, state=State.RIGHT, got=got)
    steps = [f"remove {one}" for one in strange] + [f"add {one}" for one in absent]
    why = "mail goes there too: " if record.type == "MX" and strange and not absent else ""
    return replace(unknown, state=State.WRONG, got=got, remedy=why + ", ".join(steps))


def _forbidden(name: str, authorities: tuple[str, ...], answer: Answer) -> list[Finding]:
    purpose = "who may make certificates (RFC 8659)"
    if answer.failure.startswith(SERVFAIL):
        remedy = f"{answer.failure}; authorities make no certificate then: mend the name servers of this name"
        return [Finding(name, "CAA", State.UNANSWERED, authorities, (), purpose, remedy)]
    issuers = [value.issuer(one) for one in answer.values]
    if all(one is None for one in issuers) or value.issuer(authorities[0]) in issuers:
        return []
    remedy = "it forbids the authority that our certificates come from; add ours beside it, or remove it"
    return [Finding(name, "CAA", State.WRONG, authorities, answer.values, purpose, remedy)]
