"""What a month costs: the default stays within its budget, and the bill is the sum of its lines."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from tests.cloud import CONFIG
from twinmail.config import Config
from twinmail.cost import quantities
from twinmail.cost.bill import Bill, Line, bill, total
from twinmail.cost.measure import Measurement, bucket_octets
from twinmail.cost.prices import Price, Prices, PricesError
from twinmail.cost.quantities import Quantities, month
from twinmail.cost.resources import counted
from twinmail.production import Budget, Dns, Lightsail, Usage
from twinmail.reconciler import slices, turn
from twinmail.sync import accounts, answers, sent, settings, sqs
from twinmail.sync import service as syncer

PROJECT = Path(__file__).parents[2]
PRICES = Prices.load()
DEFAULT = Config.load(PROJECT / "twinmail.toml")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def of(config: Config, **changes: Any) -> Bill:
    template = (PROJECT / "lambda" / "stack.yaml").read_text()
    used = month(config, *counted(template, config))
    return bill(config, replace(used, **changes), PRICES)


def with_usage(**usage: Any) -> Config:
    return replace(DEFAULT, usage=Usage(**usage))


def amount(found: Bill, service: str, item: str) -> float:
    (line,) = [one for one in found.lines if (one.service, one.item) == (service, item)]
    return line.amount


def test_default_configuration_costs_at_most_ten_dollars_before_tax() -> None:
    found = of(DEFAULT)
    assert found.total <= 10, found
    assert not found.over
    assert (DEFAULT.usage.messages_in, DEFAULT.usage.messages_out, DEFAULT.usage.stored_gb) == (
        1000,
        200,
        10,
    )


def test_page_has_the_figures_of_the_default() -> None:
    found = of(DEFAULT)
    page = (PROJECT / "docs" / "cost.md").read_text()
    assert f"{found.total:.2f} in all, of a budget of {found.budget:.2f}\n" in page
    assert f"{found.total_with_vat:.2f} with 19 % VAT\n" in page
    larger = PRICES["lightsail-micro_3_0"].usd - PRICES["lightsail-nano_3_0"].usd
    assert f"the default month would be ${found.total + larger:.2f}," in page


def test_stack_has_no_alarm_that_costs() -> None:
    template = (PROJECT / "lambda" / "stack.yaml").read_text()
    alarms, _ = counted(template, DEFAULT)
    assert alarms <= PRICES["alarm"].free == 10


@pytest.mark.parametrize(
    ("item", "free"),
    [
        ("Lambda calls", 1_000_000),
        ("SQS requests", 1_000_000),
        ("SNS notices", 1_000_000),
        ("CloudWatch alarms", 10),
        ("DynamoDB storage", 25),
        ("CloudWatch logs", 5),
    ],
)
def test_what_is_free_costs_nothing_and_says_so(item: str, free: float) -> None:
    (line,) = [one for one in of(DEFAULT).lines if f"{one.service} {one.item}" == item]
    assert line.amount == 0 and line.quantity <= free
    assert line.note.startswith(f"{free:,} a month are free")


def test_every_service_of_the_design_has_a_line() -> None:
    services = {one.service for one in of(DEFAULT).lines}
    expected = {"Lightsail", "SES", "S3", "DynamoDB", "Lambda", "SQS", "SNS", "CloudWatch", "Route 53"}
    assert expected <= services


def test_failover_costs_one_health_check() -> None:
    plain, safe = of(DEFAULT), of(replace(DEFAULT, dns=Dns(failover=True)))
    assert round(safe.total - plain.total, 6) == 0.75
    assert safe.total <= 10


def test_zones_elsewhere_cost_nothing_here() -> None:
    found = of(replace(DEFAULT, dns=Dns(route53=False)))
    assert amount(found, "Route 53", "zones") == amount(found, "Route 53", "queries") == 0


def test_an_expensive_plan_of_ses_has_a_line_of_its_own() -> None:
    assert amount(of(DEFAULT, sending_plan="PRO"), "SES", "plan pro") == 105
    cheap, dear = of(DEFAULT, sending_plan="NONE"), of(DEFAULT)
    assert amount(cheap, "SES", "sent") == 0.02 and amount(dear, "SES", "sent") == 0.032


def test_unknown_machine_is_an_error_with_the_known_ones() -> None:
    backup = replace(DEFAULT.servers["backup"], lightsail=Lightsail(bundle="huge_9_0"))
    config = replace(DEFAULT, servers={**DEFAULT.servers, "backup": backup})
    with pytest.raises(
        PricesError, match=r"^Lightsail bundle huge_9_0: prices\.toml .* known: nano_3_0, micro"
    ):
        of(config)


def test_document_has_exactly_the_keys_that_scripts_are_promised() -> None:
    document = json.loads(json.dumps(of(DEFAULT).document()))
    assert list(document) == ["total", "total_with_vat", "budget", "lines"]
    assert document["budget"] == 10 and document["total_with_vat"] == round(document["total"] * 1.19, 6)
    keys = ["service", "item", "quantity", "unit", "unit_price", "amount", "source", "note"]
    assert all(list(one) == keys for one in document["lines"])


# The model and the code


def test_model_has_the_beats_of_the_syncer() -> None:
    options = syncer.Options("primary", Path("/"), Path("/"))
    assert options.poll_seconds == quantities.POLL_SECONDS
    assert settings.PULL_SECONDS == quantities.SETTINGS_SECONDS
    assert accounts.SECONDS == quantities.ACCOUNTS_SECONDS
    assert (sent.PULL_SECONDS, sent.WINDOW.days + 1) == (quantities.SENT_SECONDS, quantities.SENT_DAYS)
    assert (answers.LIST_SECONDS, answers.LATE.days + 1) == (
        quantities.DECISIONS_SECONDS,
        quantities.DECISIONS_DAYS,
    )
    assert sqs.WAIT_SECONDS == quantities.RECEIVE_SECONDS


def test_model_has_the_turns_of_the_reconciler() -> None:
    assert slices.TURN.total_seconds() == quantities.RECONCILE_SECONDS
    assert slices.COUNT == quantities.RECONCILE_TURNS
    assert turn.WINDOW.days == quantities.RECONCILE_DAYS
    # Each turn lists a page, and more of a larger bucket.
    many = month(with_usage(stored_gb=1000.0), 0).s3_writes - month(with_usage(stored_gb=0.0), 0).s3_writes
    assert many > quantities.SECONDS / quantities.RECONCILE_SECONDS


def test_model_has_the_memory_of_the_function() -> None:
    template = (PROJECT / "lambda" / "stack.yaml").read_text()
    assert f"MemorySize: {quantities.FUNCTION_MB}\n" in template


# Properties

AMOUNTS = st.floats(0, 1e6)
LINES = st.lists(
    st.builds(
        Line,
        st.just("S3"),
        st.text(max_size=3),
        AMOUNTS,
        st.just("GB"),
        AMOUNTS,
        AMOUNTS,
        st.just(""),
        st.just(""),
    ),
    max_size=30,
)
USAGES = st.builds(
    Usage,
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.floats(0, 10**5),
    st.floats(0.1, 40 * 1024),
)


@given(LINES, AMOUNTS, st.floats(0, 100))
def test_total_is_the_sum_and_tax_comes_on_top(lines: list[Line], budget: float, vat: float) -> None:
    found = total(tuple(lines), Budget(budget, vat))
    assert found.total == pytest.approx(sum(one.amount for one in lines), abs=1e-5)
    assert found.total_with_vat == pytest.approx(found.total * (1 + vat / 100), abs=1e-5)
    assert found.total_with_vat >= found.total
    assert found.over == (found.total > budget)


@given(USAGES)
def test_no_line_is_negative_or_more_than_its_quantity_times_its_price(usage: Usage) -> None:
    for one in of(replace(DEFAULT, usage=usage)).lines:
        assert 0 <= one.amount <= one.quantity * one.unit_price + 1e-5, one


@given(USAGES, st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1000))
def test_more_mail_never_costs_less(usage: Usage, incoming: int, outgoing: int, stored: float) -> None:
    more = replace(
        usage,
        messages_in=usage.messages_in + incoming,
        messages_out=usage.messages_out + outgoing,
        stored_gb=usage.stored_gb + stored,
    )
    before, after = of(replace(DEFAULT, usage=usage)), of(replace(DEFAULT, usage=more))
    assert after.total >= before.total - 1e-4


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 10))
def test_free_units_come_first(quantity: float, free: float, usd: float) -> None:
    price = Price(usd, "GB", "page", date(2026, 1, 1), free)
    assert price.of(min(quantity, free)) == 0
    assert price.of(free + quantity) == pytest.approx(quantity * usd, rel=1e-6, abs=1e-5)


# The price list


def test_each_price_says_where_and_when_it_was_read() -> None:
    for name, one in PRICES.price.items():
        assert one.page and one.unit and one.read <= date(2026, 11, 23), name


def test_old_prices_and_another_region_are_doubts() -> None:
    assert PRICES.doubts(PRICES.oldest + timedelta(days=365), "eu-central-1") == []
    (old,) = PRICES.doubts(PRICES.oldest + timedelta(days=366), "eu-central-1")
    assert old.startswith(
        "prices.toml: prices read more than 12 months ago, the oldest on 2026-03-13: Amazon Lightsail Pricing;"
    )
    (other,) = PRICES.doubts(PRICES.oldest, "us-east-1")
    assert other == "prices.toml: the prices are those of eu-central-1, and us-east-1 has its own"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("region = 1", "not a list of prices: 'price'"),
        ("=", "not a list of prices: Invalid"),
        ('region = "x"\n[price.a]\nusd = 1.0', "not a list of prices: .*missing"),
        (
            'region = "x"\n[price.a]\nusd = -1.0\nunit = "GB"\npage = "p"\nread = 2026-01-01',
            "a: expected a price from 0, a unit, a page and a date, got",
        ),
    ],
)
def test_damaged_list_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(PricesError, match=rf"^prices\.toml: {expected}"):
        Prices.load(path)


# Measured


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", CONFIG.region)
    with mock_aws():
        place = {"LocationConstraint": CONFIG.region}
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=CONFIG.bucket, CreateBucketConfiguration=place)
        s3.put_bucket_versioning(Bucket=CONFIG.bucket, VersioningConfiguration={"Status": "Enabled"})

        def client(name: str) -> Any:
            """moto's, and a refusal where moto has nothing."""
            found = boto3.client(name)
            if name == "sesv2":
                stubber = Stubber(found)
                stubber.add_client_error("get_account", "AccessDenied")
                stubber.activate()
            return found

        yield client


def measured(client: Any) -> tuple[Quantities, Measurement]:
    measurement = Measurement(CONFIG, client, NOW)
    return measurement.of(month(CONFIG, 0)), measurement


def put(client: Any, key: str, octets: int) -> None:
    client("s3").put_object(Bucket=CONFIG.bucket, Key=key, Body=b"x" * octets)


def metric(client: Any, namespace: str, name: str, value: float, days: float = 1, **dimensions: str) -> None:
    client("cloudwatch").put_metric_data(
        Namespace=namespace,
        MetricData=[
            {
                "MetricName": name,
                "Value": value,
                "Timestamp": NOW - timedelta(days=days),
                "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
            }
        ],
    )


def test_messages_of_thirty_days_are_counted_and_weighed(aws: Any) -> None:
    for days, octets in ((0, 1000), (29, 3000), (31, 9000)):
        put(aws, f"processed/{NOW - timedelta(days=days):%Y/%m/%d}/m{days}.eml", octets)
    put(aws, f"quarantine/{NOW:%Y/%m/%d}/v.eml", 2000)
    put(aws, f"state/sent/{NOW:%Y/%m/%d}/s.json", 10)
    used, _ = measured(aws)
    assert used.messages_in == pytest.approx(3 * quantities.DAYS / 30)
    assert used.messages_out == pytest.approx(quantities.DAYS / 30)
    assert used.message_gb * quantities.GIB == pytest.approx(2000)
    assert used.source("messages_in") == used.source("message_gb") == "measured"
    assert used.source("s3_writes") == "assumed"


def test_size_of_the_bucket_is_cloudwatchs_or_the_sum_of_all_versions(aws: Any) -> None:
    put(aws, "incoming/a", 1000)
    put(aws, "incoming/a", 500)
    points = [
        {"Timestamp": NOW - timedelta(days=days), "Average": octets} for days, octets in ((1, 6e9), (2, 5e9))
    ]
    archived = [{"Timestamp": NOW - timedelta(days=1), "Average": 1e9}]
    for standard, cheaper, expected in (
        ([], [], 1500),
        (points, [], 6 * 10**9),
        (points, archived, 7 * 10**9),
    ):
        cloudwatch = boto3.client("cloudwatch")
        stubber = Stubber(cloudwatch)
        for datapoints in (standard, cheaper):
            stubber.add_response("get_metric_statistics", {"Label": "size", "Datapoints": datapoints})
        stubber.activate()

        def client(name: str, cloudwatch: Any = cloudwatch) -> Any:
            return cloudwatch if name == "cloudwatch" else aws(name)

        assert bucket_octets(CONFIG, client, NOW) == expected


def test_figures_of_cloudwatch_are_for_a_month(aws: Any) -> None:
    for server in CONFIG.servers:
        metric(aws, "AWS/SQS", "NumberOfEmptyReceives", 60_000, QueueName=CONFIG.queue(server))
    metric(aws, "AWS/Logs", "IncomingBytes", 1 << 30, LogGroupName=f"/aws/lambda/{CONFIG.function}")
    used, _ = measured(aws)
    scale = quantities.DAYS / 30
    assert used.queue_requests == pytest.approx(120_000 * scale)
    assert used.log_gb == pytest.approx(scale)


def test_what_cannot_be_measured_stays_assumed_and_is_said(aws: Any) -> None:
    used, measurement = measured(aws)
    assert used.function_calls == month(CONFIG, 0).function_calls
    assert used.source("function_calls") == "assumed"
    assert any(one.startswith("function: assumed, not measured: ") for one in measurement.problems)


def test_plan_of_the_account_decides_what_sending_costs(aws: Any) -> None:
    account = boto3.client("sesv2")
    stubber = Stubber(account)
    stubber.add_response("get_account", {"PricingAttributes": {"CurrentPlan": "NONE"}})
    stubber.activate()
    used, _ = measured(lambda name: account if name == "sesv2" else aws(name))
    assert (used.sending_plan, used.source("sending_plan")) == ("NONE", "measured")


def test_only_our_zones_count(aws: Any) -> None:
    for number, name in enumerate((*CONFIG.domains, "other.example")):
        aws("route53").create_hosted_zone(Name=name, CallerReference=str(number))
    used, _ = measured(aws)
    assert used.zones == len(CONFIG.domains)


def test_cost_explorer_is_never_asked(aws: Any) -> None:
    asked: list[str] = []

    def client(name: str) -> Any:
        asked.append(name)
        return aws(name)

    measured(client)
    assert asked and "ce" not in asked
