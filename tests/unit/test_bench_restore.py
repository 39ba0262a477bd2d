"""The benchmark of a restore at its smallest: that it works and what it tells, never how fast anything is."""

import shutil
from pathlib import Path

from bench import mail_log, packed_log, s3_stub
from bench.restore import CONFIG, FILES, NOT_DURABLE, OURS, PACKED, Leg, Pulls, Result, Run
from twinmail.config import Config

# More than the least with which the syncer carries batches.
MESSAGES = 70


def test_ratios_are_medians_of_theirs_by_ours() -> None:
    def runs(*seconds: float) -> list[Run]:
        return [Run(one, one / 2, 50_000_000) for one in seconds]

    legs = {
        OURS: runs(2.0, 4.0, 90.0),
        NOT_DURABLE: runs(1.0),
        PACKED: runs(1.5),
        FILES: runs(0.5),
        "s5cmd --numworkers 64": runs(6.0, 6.0),
        "aws s3 sync": runs(40.0),
    }
    result = Result(8, 100, {"s5cmd": "v2"}, (Leg(0.0, 9000.0, legs), Leg(0.02, 9000.0, {OURS: runs(1.0)})))
    assert result.to_json()["ratios"] == {"s5cmd": 1.5, "aws": 10.0}
    assert result.to_json()["packed_ratios"] == {"s5cmd": 4.0, "aws": 26.67}
    first = result.tables()[0]
    assert first.rows[4] == ("s5cmd --numworkers 64 v2", "6.0", "6.0 to 6.0", "1", "3.0", "50", "1.50")
    assert first.rows[0][2] == "2.0 to 90.0"


def test_lists_by_pages_and_folders() -> None:
    keys = ["a/1", "a/2", "b/x/1", "b/x/2", "b/y"]
    assert s3_stub.page(keys, {"max-keys": "2"}) == s3_stub.Page(("a/1", "a/2"), (), "a/2")
    assert s3_stub.page(keys, {"continuation-token": "a/2"}).keys == ("b/x/1", "b/x/2", "b/y")
    assert s3_stub.page(keys, {"prefix": "b/", "delimiter": "/"}) == s3_stub.Page(("b/y",), ("b/x/",), "")


def test_pulls_everything_durable_or_not_and_from_packs_alone(tmp_path: Path) -> None:
    keys, octets = mail_log.write(tmp_path / "plain", MESSAGES, "ann")
    assert len(set(keys)) == MESSAGES and octets > MESSAGES * 600
    (tmp_path / "twinmail.toml").write_text(CONFIG)
    packed = packed_log.pack(
        tmp_path / "plain", tmp_path / "objects", Config.load(tmp_path / "twinmail.toml")
    )
    assert packed == MESSAGES
    # Without what is packed it cannot come from anywhere else.
    shutil.rmtree(tmp_path / "objects" / "processed")
    server = s3_stub.plain(tmp_path / "objects")
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        runs = Pulls(tmp_path / "runs", MESSAGES, lambda text: None, None).all(
            endpoint, endpoint, 1, tmp_path / "plain" / "processed"
        )
        assert {name: len(one) for name, one in runs.items()} == {
            OURS: 2,
            NOT_DURABLE: 1,
            PACKED: 1,
            FILES: 1,
        }
        assert all(one.seconds > 0 and one.cpu > 0 and one.memory > 10_000_000 for one in runs[OURS])
    finally:
        server.shutdown()
        server.server_close()
