"""Before the first deployment, with a clock or credentials that AWS refuses: each is a line of its own."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.config import Config as Calls
from moto import mock_aws

from tests.cloud import CONFIG
from twinmail.doctor import account, outside, own, receiving
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Endpoint, Patient

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
REFUSED = (
    '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
    "<Code>SignatureDoesNotMatch</Code><Message>Signature refused</Message></Error></ErrorResponse>"
)
WELL = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>{arn}</Arn><UserId>U</UserId><Account>111122223333</Account></GetCallerIdentityResult>"
    "</GetCallerIdentityResponse>"
)
USER = "arn:aws:iam::111122223333:user/deployer"


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Patient]]:
    """A stand-in for STS: (status, body, how far this machine is ahead of it) → the system that it is of."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    started = []

    def serve(status: int, body: str, ahead: timedelta = timedelta()) -> Patient:
        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response_only(status)
                self.send_header("Date", format_datetime(NOW - ahead, usegmt=True))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        started.append(server)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

        def client(service: str) -> Any:
            calls = Calls(retries={"total_max_attempts": 1})
            url = f"http://127.0.0.1:{server.server_port}"
            return boto3.client(service, region_name=CONFIG.region, endpoint_url=url, config=calls)

        return Patient(CONFIG, client, False, {}, {}, now=lambda: NOW)

    yield serve
    for one in started:
        one.shutdown()
        one.server_close()


def cloud() -> Patient:
    return Patient(CONFIG, lambda service: boto3.client(service, region_name=CONFIG.region), False, {}, {})


def one_problem(findings: Any) -> Finding:
    (found,) = findings
    assert found.state is State.PROBLEM and found.remedy
    return found


def test_a_clock_that_is_off_is_seen_in_the_refusal(sts: Callable[..., Patient]) -> None:
    looked = sts(403, REFUSED, timedelta(minutes=-20))
    assert "1200 s behind AWS" in one_problem(account.clock(looked)).text
    found = one_problem(account.credentials(looked))
    assert "clock is wrong" in found.text and "timedatectl" in found.remedy


def test_a_clock_that_drifts_is_a_warning(sts: Callable[..., Patient]) -> None:
    (found,) = account.clock(sts(200, WELL.format(arn=USER), timedelta(seconds=45)))
    assert found.state is State.WARNING and "45 s ahead of AWS" in found.text


def test_credentials_that_aws_refuses(sts: Callable[..., Patient]) -> None:
    found = one_problem(account.credentials(sts(403, REFUSED)))
    assert "Signature refused" in found.text and "aws configure" in found.remedy


def test_no_credentials(sts: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    looked = sts(200, WELL.format(arn=USER))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    assert "Unable to locate credentials" in one_problem(account.credentials(looked)).text


@pytest.mark.parametrize(
    ("arn", "state"), [(USER, State.OK), ("arn:aws:iam::111122223333:root", State.WARNING)]
)
def test_whoever_signs_in(sts: Callable[..., Patient], arn: str, state: State) -> None:
    (found,) = account.credentials(sts(200, WELL.format(arn=arn)))
    assert found.state is state and arn in found.text and CONFIG.region in found.text


def test_before_the_first_deployment_each_part_is_missing() -> None:
    with mock_aws():
        assert "there is none of that name" in one_problem(own.stack(cloud())).text
        assert "no such bucket" in one_problem(receiving.bucket(cloud())).text
        assert "no such queue" in one_problem(receiving.dead_letters(cloud())).text
        queues = list(receiving.queues(cloud()))
        assert {one.text for one in queues} == {"there is no such queue"} and len(queues) == 3
        assert "no rule set is active" in one_problem(receiving.rules(cloud())).text
        domains = list(account.identities(cloud()))
        assert {one.subject for one in domains} == set(CONFIG.domains)
        assert {one.state for one in domains} == {State.PROBLEM}


def test_a_name_without_an_address() -> None:
    endpoint = Endpoint("nowhere.invalid", "nowhere.invalid", {"IMAP": 993}, frozenset())
    found = one_problem(
        outside.ports(Patient(CONFIG, lambda service: None, False, {}, {"primary": endpoint}))
    )
    assert "./inv dns --check" in found.remedy
