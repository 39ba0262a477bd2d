"""A mailbox to measure with: as many messages as wanted of about 12 KB, the same ones for the same seed.

Words follow Zipf's law over a vocabulary made of German and English syllables, with compounds and endings, so
that an index meets as many different words as in real mail. Each message also has words of its own: links
with digests, order numbers, a Message-ID. Half of them have an HTML part too, and one in twenty an attached
image, which no index reads.
"""

import base64
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

_ONSETS, _VOWELS, _CODAS, _ENDINGS = (
    line.split()
    for line in (
        "b d f g h k l m n p r s t v w z sch st tr br fr kl gr pf ch sp th wh",
        "a e i o u a e i o e ei ie au eu ä ö ü ee ou",
        "n r l s t m ng rt st ch nd ck g ft lt mpf rn ss ll",
        "en er ung e s ing ed keit lich ly ness heit",
    )
)

START = datetime(2020, 1, 1, tzinfo=UTC)
_WORDS = 60_000
_FREQUENT = 200
_PARAGRAPHS = 12_000
# What searches look for; none of the made-up words contains one of them.
EVERYWHERE = "quittungsblock"
SOME = "nadelöhrprüfung"
ONE = "xylophonquartett"
NOWHERE = "zwyxqvutnomatch"


@dataclass(frozen=True)
class Sample:
    """One message: when it arrived and its octets."""

    arrived: datetime
    data: bytes


def samples(count: int, seed: int = 2026) -> Iterator[Sample]:
    """The first *count* messages of *seed*.

    `ONE` is in the body of the message in the middle, `SOME` in one of a thousand, `EVERYWHERE` in each.
    """
    chance = random.Random(seed)
    paragraphs = _paragraphs(chance, _vocabulary(chance))
    picture = base64.encodebytes(chance.randbytes(24_000)).replace(b"\n", b"\r\n")
    for number in range(count):
        needles = [EVERYWHERE]
        if number % 1000 == 500:
            needles.append(f"Strom{SOME}en")
        if number == count // 2:
            needles.append(ONE)
        arrived = START + timedelta(minutes=40 * number)
        yield Sample(arrived, _message(chance, number, arrived, paragraphs, needles, picture))


def _vocabulary(chance: random.Random) -> list[str]:
    words: list[str] = []
    seen: set[str] = set()
    while len(words) < _WORDS:
        word = "".join(_syllable(chance) for _ in range(chance.choice((1, 2, 2, 2, 3, 3))))
        if len(words) > _FREQUENT and chance.random() < 0.2:
            # A compound ends with one of the frequent words.
            word += words[chance.randrange(_FREQUENT)]
        if chance.random() < 0.4:
            word += chance.choice(_ENDINGS)
        if word not in seen:
            seen.add(word)
            words.append(word)
    return words


def _syllable(chance: random.Random) -> str:
    coda = chance.choice(_CODAS) if chance.random() < 0.6 else ""
    return chance.choice(_ONSETS) + chance.choice(_VOWELS) + coda


def _paragraphs(chance: random.Random, words: list[str]) -> list[str]:
    """Paragraphs of 60 words; frequency is inverse to rank (Zipf)."""
    total, weights = 0.0, []
    for rank in range(1, len(words) + 1):
        total += 1.0 / (rank + 2.7)
        weights.append(total)
    return [
        " ".join(chance.choices(words, cum_weights=weights, k=60)).capitalize() + "."
        for _ in range(_PARAGRAPHS)
    ]


def _message(
    chance: random.Random,
    number: int,
    arrived: datetime,
    paragraphs: list[str],
    needles: list[str],
    picture: bytes,
) -> bytes:
    tag = hashlib.sha256(b"%d" % number).hexdigest()
    html = number % 2 == 0
    # Log-normal, as sizes of mail are; text and HTML together are about 12 KB.
    size = max(1, min(200, round(chance.lognormvariate(2.4, 0.7) / (2 if html else 1))))
    chosen = chance.sample(paragraphs, size)
    lines = [
        *chosen,
        " ".join(needles),
        f"https://shop{number % 97}.example.com/orders/{tag[:32]}?c={number}",
    ]
    text = "\r\n".join(_folded("\n\n".join(lines)))
    head = _head(chance, number, arrived, tag, chosen[0][:40])
    parts = [("text/plain; charset=utf-8", "8bit", text.encode())]
    if html:
        rows = "".join(f'<p class="c{at % 7}">{one}</p>\r\n' for at, one in enumerate(lines))
        parts.append(("text/html; charset=utf-8", "8bit", f"<html><body>\r\n{rows}</body></html>".encode()))
    if number % 20 == 7:
        parts.append(("image/jpeg", "base64", picture))
    if len(parts) == 1:
        kind, encoding, body = parts[0]
        return f"{head}Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    edge = f"=_{tag[:20]}"
    out = [f'{head}Content-Type: multipart/mixed; boundary="{edge}"\r\n\r\n'.encode()]
    for kind, encoding, body in parts:
        fields = f"--{edge}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        out += [fields.encode(), body, b"\r\n"]
    return b"".join([*out, f"--{edge}--\r\n".encode()])


def _head(chance: random.Random, number: int, arrived: datetime, tag: str, subject: str) -> str:
    """Header fields as SES hands them on: a few that people read, and the trace and signatures of the way."""
    sender, host, date = number % 997, f"mail{number % 211}.example.com", format_datetime(arrived)
    signature = base64.b64encode(chance.randbytes(256)).decode()
    hops = "".join(
        f"Received: from {chance.randbytes(4).hex()}.{host} ([192.0.2.{chance.randrange(256)}])\r\n"
        f"\tby mx{hop}.example.net with ESMTPS id {chance.randbytes(8).hex()}\r\n"
        f"\tfor <rene@example.org>; {date}\r\n"
        for hop in range(3)
    )
    return (
        f"Return-Path: <bounce-{tag[:12]}@{host}>\r\n"
        f"{hops}"
        f"DKIM-Signature: v=1; a=rsa-sha256; d={host}; s=s1; h=from:to:subject;\r\n\tb={signature}\r\n"
        f"X-SES-RECEIPT: {base64.b64encode(chance.randbytes(120)).decode()}\r\n"
        f"From: Person {sender} <person{sender}@example.com>\r\n"
        "To: rene@example.org\r\n"
        f"Subject: {subject.encode('ascii', 'ignore').decode()} {number}\r\n"
        f"Date: {date}\r\n"
        f"Message-ID: <{tag[32:]}@{host}>\r\n"
        "MIME-Version: 1.0\r\n"
    )


def _folded(text: str) -> Iterator[str]:
    """Lines of at most about 76 characters, as mail clients send them."""
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if line and len(line) + len(word) > 75:
                yield line
                line = word
            else:
                line = f"{line} {word}" if line else word
        yield line
