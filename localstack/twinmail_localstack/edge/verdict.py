"""Verdicts: what SES says about a message. It only annotates; acting on it is the reader's business. Pure.

There is no DNS here, so SPF, DKIM and DMARC are GRAY ("no policy, or no signature") for all mail but what
came through our own SMTP endpoint. Spam and virus follow the two standard test strings.
"""

from dataclasses import dataclass

PASS = "PASS"
FAIL = "FAIL"
GRAY = "GRAY"
DISABLED = "DISABLED"

# Each in two parts, so that a scanner does not take this file for what it describes.
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
# The first line of the same in base64, as an attachment has it.
EICAR_BASE64 = b"WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0ND" + b"KTd9JEVJQ0FSLVNUQU5EQVJELUFOVElWSVJVUy1URVNU"


@dataclass(frozen=True)
class Verdicts:
    """SES's five verdicts: PASS, FAIL, GRAY or DISABLED each."""

    spam: str = DISABLED
    virus: str = DISABLED
    spf: str = GRAY
    dkim: str = GRAY
    dmarc: str = GRAY


def judge(content: bytes, scanned: bool, own: bool = False) -> Verdicts:
    """Judge *content*; *own* mail came through our SMTP endpoint, which signs and is permitted."""
    spam = virus = DISABLED
    if scanned:
        spam = FAIL if GTUBE in content else PASS
        virus = FAIL if EICAR in content or EICAR_BASE64 in content else PASS
    authentic = PASS if own else GRAY
    return Verdicts(spam, virus, authentic, authentic, authentic)
