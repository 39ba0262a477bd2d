"""What a chaos run decides without a system: its plan, its messages, and above all its verdict."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from twinmail.chaos.catalogue import NAMES, SENTENCES, UnknownFault, names_of
from twinmail.chaos.letters import CONFIG, LABEL, Letter
from twinmail.chaos.mail_client import compare
from twinmail.chaos.report import markdown
from twinmail.chaos.run import Result
from twinmail.chaos.schedule import LONELY, schedule
from twinmail.chaos.traffic import Attempt, Heard
from twinmail.chaos.verdict import Verdict, label, missing, verdict
from twinmail.config import Config
from twinmail.routing import route

SERVERS = ("primary", "backup")


def test_every_fault_is_there_alone_and_mixed_and_every_message_is_sent_once() -> None:
    windows = schedule(NAMES, 1000, 7)
    assert windows == schedule(NAMES, 1000, 7) != schedule(NAMES, 1000, 8)
    numbers = [number for one in windows for number in range(one.first, one.last)]
    assert numbers == list(range(1000))
    groups = [one.faults for one in windows]
    for name in NAMES:
        assert (name,) in groups
        mixed = [one for one in groups if name in one and len(one) > 1]
        assert len(mixed) <= 1 and (name not in LONELY or not mixed)
    assert len([one for one in groups if len(one) > 1]) > len(NAMES) / 4


def test_without_faults_there_is_one_window() -> None:
    (window,) = schedule((), 5, 1)
    assert (window.first, window.last, window.faults) == (0, 5, ())


def test_letters_are_the_same_for_the_same_seed_and_go_where_the_configuration_says() -> None:
    config = Config.parse(CONFIG.replace("PLATFORM", "linux/amd64"))
    assert {len(Letter.of(3, number).mailboxes) for number in range(50)} == {1, 2}
    for number in range(50):
        one = Letter.of(3, number)
        assert one.octets(1) == Letter.of(3, number).octets(1) != one.octets(2)
        assert label(b"Received: by somebody\r\n" + one.octets(2)) == f"{number}.2"
        found = set(route(config, one.rcpt_to).mailboxes)
        assert found == set(one.mailboxes)


def test_names_are_chosen_by_their_beginnings() -> None:
    assert names_of("all") == tuple(sorted(NAMES)) and names_of("none") == ()
    sns = {one for one in NAMES if one.startswith("sns-")}
    assert sns and set(names_of("sns, edge-killed")) == {*sns, "edge-killed"}
    for wrong in ("fire", "", "s3,"):
        with pytest.raises(UnknownFault, match=r"^--faults: no fault '.*'; known: function-killed, "):
            names_of(wrong)


@pytest.fixture
def mail(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / name for name in SERVERS}


def put(mail: dict[str, Path], attempt: Attempt, servers: tuple[str, ...] = SERVERS, name: str = "x") -> None:
    """Deliver *attempt* as the system does: with a line above it."""
    for server in servers:
        for mailbox in attempt.letter.mailboxes:
            folder = mail[server] / mailbox / "Maildir" / "new"
            folder.mkdir(parents=True, exist_ok=True)
            text = b"Received: from sender\r\n" + attempt.letter.octets(attempt.number)
            (folder / f"{attempt.letter.number}.{attempt.number}.{name}").write_bytes(text)


def attempts() -> list[Attempt]:
    """Ten accepted messages, one of them at the second attempt, and one of which nobody knows."""
    made = [Attempt(Letter.of(5, number), 1, Heard.ACCEPTED, f"id{number}") for number in range(9)]
    again = Letter.of(5, 9)
    return [
        *made,
        Attempt(again, 1, Heard.REFUSED),
        Attempt(again, 2, Heard.ACCEPTED, "id9"),
        Attempt(Letter.of(5, 10), 1, Heard.UNKNOWN),
    ]


def delivered(mail: dict[str, Path]) -> list[Attempt]:
    made = attempts()
    for one in made:
        if one.heard is Heard.ACCEPTED:
            put(mail, one)
    return made


def first(mail: dict[str, Path]) -> Path:
    return min((mail["backup"] / Letter.of(5, 0).mailboxes[0]).rglob("0.1.*"))


def test_all_there_once_is_clean_and_an_unknown_one_may_be_there_or_not(mail: dict[str, Path]) -> None:
    made = delivered(mail)
    assert verdict(made, mail) == Verdict() and missing(made, mail) == 0
    put(mail, made[-1])
    assert verdict(made, mail).clean


def _remove(mail: dict[str, Path]) -> None:
    first(mail).unlink()


def _double(mail: dict[str, Path]) -> None:
    (first(mail).parent / "again").write_bytes(first(mail).read_bytes())


def _change(mail: dict[str, Path]) -> None:
    first(mail).write_bytes(first(mail).read_bytes().replace(b"From: Sender", b"From: Sander"))


def _change_above(mail: dict[str, Path]) -> None:
    first(mail).write_bytes(first(mail).read_bytes().replace(b"Received: from", b"Received: form"))


def _refused(mail: dict[str, Path]) -> None:
    put(mail, attempts()[9], ("backup",))


def _strange(mail: dict[str, Path]) -> None:
    (first(mail).parent / "strange").write_bytes(b"Subject: hello\r\n\r\n")


def _elsewhere(mail: dict[str, Path]) -> None:
    folder = mail["backup"] / "dan" / "Maildir" / "cur"
    folder.mkdir(parents=True)
    (folder / "x:2,S").write_bytes(first(mail).read_bytes())


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (_remove, "lost"),
        (_double, "duplicated"),
        (_change, "changed"),
        (_change_above, "changed"),
        (_refused, "unasked"),
        (_strange, "unasked"),
        (_elsewhere, "unasked"),
    ],
)
def test_whatever_is_wrong_is_found(
    mail: dict[str, Path], break_it: Callable[[dict[str, Path]], None], kind: str
) -> None:
    made = delivered(mail)
    break_it(mail)
    found = verdict(made, mail)
    lines = {name: getattr(found, name) for name in ("lost", "duplicated", "changed", "unasked")}
    assert [name for name, one in lines.items() if one] == [kind]
    assert all(one.startswith("backup: ") for one in lines[kind])
    assert not found.clean


def test_an_unknown_one_must_not_be_there_twice(mail: dict[str, Path]) -> None:
    made = delivered(mail)
    put(mail, made[-1])
    put(mail, made[-1], ("primary",), "again")
    assert verdict(made, mail).duplicated


def test_report_has_the_seed_and_a_row_for_each_fault() -> None:
    result = Result(
        seed=42,
        sent=10,
        verdict=Verdict(lost=("one",)),
        faults=dict.fromkeys(NAMES, 3),
        windows=dict.fromkeys(NAMES, 2),
        heard={one.value: 1 for one in Heard},
        seconds=1.0,
    )
    assert result.to_json() | {"sent": 10, "lost": 1, "duplicated": 0, "seed": 42} == result.to_json()
    text = markdown(result, date(2026, 11, 23))
    assert "--messages 10 --seed 42" in text and "2026-11-23" in text and "| **lost** | **1** |" in text
    assert all(f"| `{name}` | {SENTENCES[name]} | 2 | 3 |" in text for name in NAMES)
    assert LABEL.decode() not in text and "Nothing is known" not in text
    idle = markdown(replace(result, faults=dict.fromkeys(NAMES, 3) | {NAMES[0]: 0}), date(2026, 11, 23))
    assert f"Nothing is known of `{NAMES[0]}`" in idle


def test_whatever_a_mail_client_sees_wrong_is_found() -> None:
    made = attempts()
    ours = [one for one in made if "ann" in one.letter.mailboxes and one.heard is Heard.ACCEPTED]
    labels = [one.letter.label(one.number) for one in ours]
    whole = [b"Received: by us\r\n" + one.letter.octets(one.number) for one in ours]
    assert ours and compare("backup", "ann", made, labels, whole).clean
    assert len(compare("backup", "ann", made, labels[1:], ()).lost) == 1
    assert len(compare("backup", "ann", made, [*labels, labels[0]], ()).duplicated) == 1
    assert len(compare("backup", "ann", made, labels, [whole[0] + b"x"]).changed) == 1
    assert compare("backup", "ann", made, [*labels, "9.1"], ()).unasked == ("backup: ann: message 9.1",)


def test_faults_without_effect_are_named() -> None:
    result = Result(1, 1, Verdict(), {"s3-500": 0, "s3-503": 2}, {}, {}, 0.0)
    assert result.idle == ("s3-500",)
