"""What the values of records mean: which answer does what is wanted, though it is not the same text; pure."""

SPF, DMARC = "v=spf1", "v=dmarc1"


def protocol(text: str) -> str:
    """What a TXT record is for: its version tag in lower case, such as ``v=spf1``; empty if it has none."""
    first = text.strip().partition(";")[0].split(" ")[0].lower()
    return first if first.startswith("v=") else ""


def does(kind: str, wanted: str, got: str) -> bool:
    """Whether *got* does what *wanted* is for; both as `twinmail.dns.record_set.canonical` has them."""
    if kind == "TXT":
        return _text_does(wanted, got)
    if kind == "MX":
        # With one server the preference says nothing.
        return wanted.split()[-1:] == got.split()[-1:]
    if kind == "CAA":
        return issuer(wanted) is not None and issuer(wanted) == issuer(got)
    return wanted == got


def issuer(text: str) -> str | None:
    """The authority that the CAA value *text* allows, empty for none at all; None if it says nothing of that.

    Source: RFC 8659, 4.2.
    """
    flags_tag, _, rest = text.partition('"')
    words = flags_tag.split()
    if len(words) != len(("flags", "tag")) or words[1].lower() != "issue":
        return None
    return rest.rpartition('"')[0].partition(";")[0].strip().lower()


def _text_does(wanted: str, got: str) -> bool:
    if protocol(wanted) == SPF:
        # Others may send for the domain too, as long as the rest of the world may not.
        terms = [one.lower().removeprefix("+") for one in got.split()[1:]]
        needed = [one for one in wanted.lower().split()[1:] if one.startswith("include:")]
        return bool(terms) and terms[-1] in ("~all", "-all") and all(one in terms for one in needed)
    found = tags(got)
    return all(
        value in found.get(name, "").split(",") if name == "rua" else found.get(name) == value
        for name, value in tags(wanted).items()
    )


def tags(text: str) -> dict[str, str]:
    """The tags of *text*, a TXT record of DMARC or the like (RFC 7489, 6.4), without blanks."""
    pairs = (one.partition("=") for one in text.split(";") if one.strip())
    return {name.strip().lower(): "".join(value.split()) for name, _, value in pairs}
