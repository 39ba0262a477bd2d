"""A process of `bench.function`: measures one way to handle messages of one size, and prints a JSON object.

In a process of its own, since what is asked for is also its memory at the highest.
"""

import io
import json
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LINE = 76


def message(octets: int) -> bytes:
    """A message of *octets*: a short text, and an attached file that fills it."""
    head = (
        b"From: Ann <ann@example.com>\r\nTo: bob@example.org\r\nSubject: =?utf-8?q?Bericht_f=C3=BCr_Mai?=\r\n"
        b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n'
        b'--b\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
        b'Content-Disposition: attachment; filename="a.pdf"\r\n\r\n'
    )
    line = random.Random(1).randbytes(LINE * 3 // 4).hex()[:LINE].encode() + b"\r\n"
    return head + line * max(1, (octets - len(head)) // len(line)) + b"--b--\r\n"


class S3:
    """S3 as far as the processor calls it; what is put there is read and forgotten."""

    class exceptions:
        """As boto3 names them."""

        class ClientError(Exception): ...

        class NoSuchKey(ClientError): ...

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_object(self, **_: Any) -> dict[str, Any]:
        from botocore.response import StreamingBody

        return {"Body": StreamingBody(self._path.open("rb"), self._path.stat().st_size)}

    def put_object(self, Body: Any, **_: Any) -> None:
        stream = io.BytesIO(Body) if isinstance(Body, bytes) else Body
        while stream.read(1 << 20):
            pass

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        return {}


class DynamoDB:
    """DynamoDB as far as the index calls it: everything works, and nothing is known."""

    class exceptions:
        """As boto3 names them."""

        class ConditionalCheckFailedException(Exception): ...

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        return lambda **_: {}


def ours(path: Path) -> Callable[[], object]:
    """The function's processor, with the octets in a file for S3."""
    from twinmail.config import Config
    from twinmail.index import Index
    from twinmail.processor import Processor
    from twinmail.ses_event import Receipt

    config = Config.load(PROJECT / "twinmail.toml")
    processor = Processor(config, S3(path), Index(DynamoDB(), config.table))
    (mailbox, *_) = config.mailboxes
    to = config.primary_address(mailbox)
    receipt = Receipt("bench", datetime.now(UTC), "ann@example.com", (to or f"x@{config.domains[0]}",), {})
    return lambda: processor.process(receipt)


def parsed(path: Path) -> Callable[[], object]:
    """The standard library's parser, of the whole message, every part decoded."""

    def parse() -> object:
        found = message_from_bytes(path.read_bytes(), policy=default)
        return [one.get_payload(decode=True) for one in found.walk() if not one.is_multipart()]

    return parse


def loaded() -> float:
    """Seconds to import the function's entry point, as a new process of Lambda does."""
    with tempfile.TemporaryDirectory() as folder:
        for path in ("lambda/handler.py", "twinmail.toml"):
            shutil.copy(PROJECT / path, folder)
        sys.path.insert(0, folder)
        began = time.perf_counter()
        __import__("handler")
        return time.perf_counter() - began


def main(way: str, octets: int, repeats: int) -> None:
    """Measure *way* (``import``, ``ours``, ``parsed``)."""
    seconds: list[float] = []
    if way == "import":
        seconds.append(loaded())
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(message(octets))
            file.flush()
            act = {"ours": ours, "parsed": parsed}[way](Path(file.name))
            for _ in range(repeats):
                began = time.perf_counter()
                act()
                seconds.append(time.perf_counter() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": statistics.median(seconds), "octets": memory}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
