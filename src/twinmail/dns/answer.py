"""What a name server answered, and to what; pure."""

from dataclasses import dataclass

SERVFAIL = "SERVFAIL"
"""Begins the failure of a resolver that could not find or believe an answer."""

Question = tuple[str, str]
"""A name, without the last dot, and a type."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        values: of the type that was asked for, in the form of `twinmail.dns.record_set.canonical`; none if
            there are none.
        alias: where a CNAME at the name leads, with the last dot; empty if there is none.
        failure: why there is no answer: a time-out, SERVFAIL, REFUSED; empty if there is one.
        cached: what a resolver says, which may keep an older answer; None if it was not asked besides.
    """

    values: tuple[str, ...] = ()
    alias: str = ""
    failure: str = ""
    cached: "Answer | None" = None
