"""A server that is built anew from packs alone: what the compactor wrote, the syncer reads."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.localstack_process import LocalStackProcess
from tests.log_simulator import entry_of
from tests.syncer_process import Log, SyncerProcess
from twinmail import layout
from twinmail.chaos.proxy import Proxy
from twinmail.chaos.proxy_rule import Effect, Rule
from twinmail.config import Config
from twinmail.packs.compactor import Compactor

COUNT = 120


@pytest.fixture
def log(localstack: LocalStackProcess) -> Iterator[Log]:
    log = Log(localstack)
    yield log
    log.remove()


def contents(syncer: SyncerProcess, mailbox: str = "ann") -> dict[str, str]:
    """The digest of each message by its name."""
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in syncer.files(mailbox)}


def test_restore_from_packs_alone_equals_the_live_mailbox(
    log: Log, localstack: LocalStackProcess, tmp_path: Path
) -> None:
    """Octet for octet, and with 0.05 requests a message at most."""
    day = datetime.now(UTC) - timedelta(days=40)
    s3 = localstack.client("s3")

    def commit(number: int) -> None:
        body = b"Subject: %d\r\n\r\n" % number + bytes([number]) * (number * 37)
        at = day + timedelta(minutes=number * 10)
        entry = entry_of(f"m{number}", body, at, ("ann", "bob") if number % 50 == 0 else ("ann",))
        s3.put_object(Bucket=log.bucket, Key=entry.key, Body=body)
        key = layout.manifest_key(entry.ses_id, at)
        s3.put_object(Bucket=log.bucket, Key=key, Body=entry.to_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(COUNT)))
    live = SyncerProcess(log, tmp_path / "live").start("--no-push")
    restored = SyncerProcess(log, tmp_path / "restored")
    proxy = Proxy(localstack.port).start()
    try:
        live.until_files(COUNT)
        live.until_settled()
        config = Config.load(live.config)
        done = Compactor(config, s3, datetime.now(UTC) + timedelta(days=100)).run()
        assert (done.packs, done.entries, done.broken) == (1, COUNT, [])
        for prefix in (layout.MANIFEST, layout.PROCESSED):
            found = s3.list_objects_v2(Bucket=log.bucket, Prefix=prefix)["Contents"]
            s3.delete_objects(Bucket=log.bucket, Delete={"Objects": [{"Key": one["Key"]} for one in found]})
        for operation in ("Get*", "List*", "Head*"):
            proxy.add(Rule(operation, Effect.SLOW, "s3", operation, f"*{log.bucket}*", seconds=0.0))
        log.endpoint = proxy.url
        restored.start("--no-push")
        restored.until_files(COUNT)
        restored.until_files(len(live.files("bob")), "bob")
        for mailbox in ("ann", "bob"):
            assert contents(restored, mailbox) == contents(live, mailbox)
        # Of the chores of this server, who list each half second, nothing is counted here.
        assert proxy.counts["Get*"] <= 0.05 * COUNT, proxy.counts
    finally:
        live.stop()
        restored.stop()
        proxy.stop()
