"""A rehearsal stops where a step fails, says what to do, and always cleans up."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from twinmail.errors import TransientError
from twinmail.rehearsal import needs, stage, step, story
from twinmail.rehearsal.needs import CannotRehearse
from twinmail.rehearsal.step import Outcome, Step, StepFailed
from twinmail.rehearsal.story import STEPS, NotProven
from twinmail.runtime.interface import RuntimeUnavailable
from twinmail.tasks.rehearse import rehearse


class Played:
    """A stage that remembers."""

    made: ClassVar["list[Played]"] = []

    def __init__(self, *_: object) -> None:
        self.seen: list[str] = []
        self.closed = 0
        self.made.append(self)

    def close(self) -> None:
        self.closed += 1


def steps(error: BaseException | None = None) -> tuple[Step[Played], ...]:
    """Three; the second, a part of its own, fails with *error*."""

    def act(name: str) -> Callable[[Played], None]:
        return lambda played: played.seen.append(name)

    def check(played: Played) -> str:
        if error:
            raise error
        return "two things"

    return (
        Step("one", "do one", act("one"), lambda _: "a thing"),
        Step("two", "do two", act("two"), check, "primary"),
        Step("three", "do three", act("three"), lambda _: "a third"),
    )


def test_steps_are_done_and_proven_in_order() -> None:
    played, outcomes, said = Played(), list[Outcome](), list[str]()
    times = iter([1.0, 3.0, 3.0, 3.5, 4.0, 9.0, 9.0])
    step.run(steps(), played, (), said.append, outcomes, lambda: next(times))
    assert played.seen == ["one", "two", "three"]
    assert [one.to_json() for one in outcomes] == [
        {"name": "one", "seconds": 2.0, "result": "done: a thing"},
        {"name": "two", "seconds": 0.5, "result": "done: two things"},
        {"name": "three", "seconds": 5.0, "result": "done: a third"},
    ]
    assert said[:2] == ["one: do one", "one: a thing (2.0 s)"]


def test_what_is_left_out_is_said() -> None:
    played, outcomes = Played(), list[Outcome]()
    step.run(steps(), played, ("primary",), lambda text: None, outcomes)
    assert played.seen == ["one", "three"]
    assert outcomes[1].result == "not rehearsed: --without primary"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TransientError("the host is away; try again"), "the host is away"),
        (ConnectionError("reset"), "reset"),
    ],
)
def test_a_failing_step_is_the_last(error: Exception, told: str) -> None:
    played, outcomes = Played(), list[Outcome]()
    with pytest.raises(StepFailed, match=f"step 'two' .do two. failed: .*{told}"):
        step.run(steps(error), played, (), lambda text: None, outcomes)
    assert played.seen == ["one", "two"]
    assert [one.name for one in outcomes] == ["one", "two"]
    assert outcomes[1].result.startswith("failed: ")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """``./inv rehearse`` on a stage that only remembers."""

    def run(error: BaseException | None = None, **options: Any) -> Played:
        monkeypatch.setattr(stage, "Stage", Played)
        monkeypatch.setattr(story, "STEPS", steps(error))
        monkeypatch.setattr(needs, "check", lambda without: None)
        Played.made.clear()
        rehearse(Context(), state=str(tmp_path / "state"), **{"without": [], **options})
        return Played.made[0]

    return run


def test_the_command_prints_every_step_and_the_clean_up(
    command: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(json_=True).closed == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["steps"]] == ["one", "two", "three", "clean-up"]
    assert told["seconds"] >= 0
    assert command().closed == 1
    assert "together" in capsys.readouterr().out


def test_a_failure_cleans_up_and_says_what_to_do(
    command: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as ended:
        command(TransientError("the host is away"), json_=True)
    assert ended.value.code == 1
    assert "the host is away\nrepair that, and run it again" in str(ended.value)
    assert [one.closed for one in Played.made] == [1]
    results = [one["result"] for one in json.loads(capsys.readouterr().out)["steps"]]
    assert results[1:] == ["failed: the host is away", "done: nothing of it is left"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), AssertionError("a mistake of ours")])
def test_whatever_ends_it_cleans_up(command: Callable[..., Any], error: BaseException) -> None:
    with pytest.raises((Exit, AssertionError)) as ended:
        command(error)
    assert isinstance(error, AssertionError) or ended.value.code == 130  # type: ignore[attr-defined]
    assert [one.closed for one in Played.made] == [1]


def test_an_unknown_part_is_refused(command: Callable[..., Any]) -> None:
    with pytest.raises(Exit, match="--without: unknown part 'backup'; known: primary"):
        command(without=["backup"])
    assert not Played.made


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("precious")
    with pytest.raises(
        CannotRehearse, match=r"expected no folder, or one of a rehearsal, .* name another with"
    ):
        stage.Stage(tmp_path, tmp_path, lambda: pytest.fail("built"), lambda text: None)
    assert [one.name for one in tmp_path.iterdir()] == ["letter"]


def no_engine() -> None:
    raise RuntimeUnavailable("no Docker engine answers at unix:///var/run/docker.sock")


def test_everything_that_is_missing_is_named_at_once() -> None:
    lines = needs.missing((), no_engine, lambda name: None, False, lambda path: False)
    remedies = ["sudo ./inv rehearse", "sh .ci/docker", "sh .ci/docker", "openssh-client", "sh .ci/sshd"]
    for line, remedy in zip(
        lines, [*remedies, "sh .ci/podman, or leave that out: --without primary"], strict=True
    ):
        assert line.endswith(remedy)
    with pytest.raises(CannotRehearse, match="this machine cannot rehearse:\n"):
        needs.check((), no_engine)


def test_without_the_primary_podman_is_not_asked_for() -> None:
    def which(name: str) -> str | None:
        return None if name == "podman" else f"/usr/bin/{name}"

    assert needs.missing(("primary",), lambda: None, which, True, lambda path: True) == []
    assert len(needs.missing((), lambda: None, which, True, lambda path: True)) == 1


def test_the_story_has_every_part() -> None:
    names = [one.name for one in story.STEPS]
    assert len(set(names)) == len(names)
    order = [
        "cloud",
        "push",
        "backup",
        "primary",
        "users",
        "mail in",
        "mail out",
        "backup lost",
        "backup rebuilt",
    ]
    assert [one for one in names if one in order] == order
    assert {one.part for one in story.STEPS} == {"", *needs.PARTS}


def test_other_images_than_the_pinned_ones_are_said_and_refused_if_only_those_will_do(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "digests.json").write_text("{}")
    built = {"dovecot": {"linux/amd64": SimpleNamespace(manifest="sha256:12")}}
    known: Any = SimpleNamespace(
        root=tmp_path, images=("dovecot",), report=SimpleNamespace(images=built), pinned=False
    )
    assert STEPS[0].check(known) == "1 images for servers, not those of images/digests.json"
    known.pinned = True
    with pytest.raises(NotProven, match=r"dovecot for linux/amd64: missing, got manifest sha256:12"):
        STEPS[0].check(known)
    known.report.images = {}
    assert STEPS[0].check(known) == "1 images for servers, those of images/digests.json"
