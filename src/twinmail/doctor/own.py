"""What the operator has in hand: the configuration, the secrets, the stack, its alarms, the bill."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from twinmail.config import Config
from twinmail.deploy import secret_kinds
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Patient
from twinmail.errors import PermanentError
from twinmail.hints import hints

GOOD_STACKS = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
_OPTIONAL = ("certificate/", "cloudflare/", "tls/", "webmail/")


def configuration(patient: Patient) -> Iterable[Finding]:
    """twinmail.toml, which was read without an error: what is allowed in it and seldom meant."""
    found = [
        Finding("configuration", "twinmail.toml", State.WARNING, one, "") for one in hints(patient.config)
    ]
    count = len(patient.config.mailboxes)
    text = f"{len(patient.config.domains)} domains, {count} mailboxes, {len(patient.config.servers)} servers"
    yield from found or [Finding("configuration", "twinmail.toml", State.OK, text)]


def secrets(patient: Patient) -> Iterable[Finding]:
    """The secrets that deployments need: there, and readable by their owner alone."""
    assert patient.store is not None
    missing, found = [], []
    for name in secret_kinds.expected(patient.config):
        try:
            if patient.store.get(name) is None and not name.startswith(_OPTIONAL):
                missing.append(name)
        except PermanentError as error:
            path = patient.store.path(name)
            found.append(Finding("secrets", name, State.PROBLEM, str(error), f"chmod 0600 {path}"))
    for name in missing:
        remedy = "a deployment makes it: ./inv deploy"
        found.append(Finding("secrets", name, State.PROBLEM, f"is not in {patient.store.root}", remedy))
    yield from found or [Finding("secrets", "store", State.OK, "complete, and readable by its owner alone")]


def stack(patient: Patient) -> Iterable[Finding]:
    """The stack: deployed, whole, and what the template and the configuration say now."""
    name = patient.config.stack
    try:
        told = patient.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        # CloudFormation has no code of its own for it.
        if "does not exist" not in str(error):
            raise
        text = f"there is none of that name in {patient.config.region}"
        yield Finding("stack", name, State.PROBLEM, text, "./inv deploy cloud")
        return
    status = told["StackStatus"]
    if status not in GOOD_STACKS:
        text = f"{status}: {told.get('StackStatusReason', 'no reason given')}"
        state = State.WARNING if status.endswith("_IN_PROGRESS") else State.PROBLEM
        yield Finding("stack", name, state, text, "./inv deploy cloud")
        return
    changes = tuple(patient.changes()) if patient.changes else ()
    for one in changes:
        yield Finding("stack", name, State.WARNING, f"not deployed yet: {one}", "./inv deploy cloud")
    if not changes:
        yield Finding("stack", name, State.OK, f"{status}, as the configuration says")


def alarms(patient: Patient) -> Iterable[Finding]:
    """Whether somebody hears of alarms, and which of them ring."""
    config = patient.config
    pages = patient.client("sns").get_paginator("list_subscriptions").paginate()
    topic = f":{config.alarm_topic}"
    asked = [one for page in pages for one in page["Subscriptions"] if one["TopicArn"].endswith(topic)]
    yield hearer_finding(config, asked)
    cloudwatch = patient.client("cloudwatch").get_paginator("describe_alarms")
    told = cloudwatch.paginate(AlarmNamePrefix=f"{config.stack}-")
    yield from alarm_findings([one for page in told for one in page["MetricAlarms"]])


def hearer_finding(config: Config, asked: Sequence[Mapping[str, str]]) -> Finding:
    """Who hears, by the subscriptions of the topic (SNS API, ListSubscriptions) of those who were *asked*."""
    topic, operator = config.alarm_topic, config.operator
    if operator is None:
        remedy = "name an operator in twinmail.toml, then ./inv deploy cloud"
        return Finding("alarms", topic, State.PROBLEM, "nobody hears of them: there is no operator", remedy)
    own = [one["SubscriptionArn"] for one in asked if one["Endpoint"] == operator]
    if not own:
        text = f"nobody hears of them: {operator} is not asked to"
        return Finding("alarms", topic, State.PROBLEM, text, "./inv deploy cloud")
    # In place of its ARN, an unconfirmed one has "PendingConfirmation", and one that was ended "Deleted".
    if not any(one.startswith("arn:") for one in own):
        text = f"nobody hears of them: {operator} has not confirmed it"
        remedy = f'open the link in the mail "AWS Notification - Subscription Confirmation" to {operator}'
        return Finding("alarms", topic, State.PROBLEM, text, remedy)
    return Finding("alarms", topic, State.OK, f"go to {operator}")


def alarm_findings(every: Sequence[Mapping[str, Any]]) -> Iterable[Finding]:
    """Which alarms ring (CloudWatch API, DescribeAlarms)."""
    ringing = [one for one in every if one["StateValue"] == "ALARM"]
    for one in ringing:
        remedy = f"see docs/alarms.md, {one['AlarmName']}"
        yield Finding("alarms", one["AlarmName"], State.PROBLEM, one["StateReason"][:200], remedy)
    if not ringing:
        yield Finding("alarms", "state", State.OK, f"none of {len(every)} rings")


def cost(patient: Patient) -> Iterable[Finding]:
    """What a month costs, beside the budget."""
    assert patient.month is not None
    total, budget = patient.month(), patient.config.budget.month_usd
    text = f"{total:.2f} of {budget:.2f} dollars a month, before tax"
    if total > budget:
        yield Finding("cost", "month", State.WARNING, text, "./inv cost --actual says for what")
    else:
        yield Finding("cost", "month", State.OK, text)
