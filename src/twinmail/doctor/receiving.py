"""From SES into the bucket and the queues: the rules, and what must let SES, SNS and S3 pass mail on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from twinmail import layout
from twinmail.config import Config
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Patient

DEPLOY = "./inv deploy cloud"
BY_HAND = f'{DEPLOY}; if that finds nothing to change, see "Changed by hand" in docs/doctor.md'
"""CloudFormation compares with what it made last, not with what is there now."""
_DEPTHS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


def rules(patient: Patient) -> Iterable[Finding]:
    """The active receipt rule set."""
    yield from rule_findings(patient.config, patient.client("ses").describe_active_receipt_rule_set())


def rule_findings(config: Config, told: Mapping[str, Any]) -> Iterable[Finding]:
    """What DescribeActiveReceiptRuleSet *told*."""

    def problem(text: str, remedy: str = BY_HAND) -> Finding:
        return Finding("rules", config.rule_set, State.PROBLEM, text, remedy)

    active = told.get("Metadata", {}).get("Name", "")
    if active != config.rule_set:
        got = f"{active} is active" if active else "no rule set is active"
        yield problem(f"{got}: SES refuses or diverts our mail", DEPLOY)
        return
    own = [one for one in told.get("Rules", ()) if one["Name"] == config.rule]
    if not own:
        yield problem(f"the rule {config.rule} is not in it")
        return
    found = []
    rule, recipients = own[0], set(config.receipt_recipients)
    if not rule.get("Enabled"):
        found.append(problem(f"the rule {config.rule} is off"))
    listed = set(rule.get("Recipients", ()))
    if listed != recipients:
        absent, strange = ", ".join(sorted(recipients - listed)), ", ".join(sorted(listed - recipients))
        text = f"recipients: {f'missing {absent}' if absent else ''}{'; ' if absent and strange else ''}"
        found.append(problem(f"{text}{f'not ours any more: {strange}' if strange else ''}"))
    if not rule.get("ScanEnabled"):
        found.append(problem("the rule does not have mail scanned for spam and viruses"))
    actions = {kind: one for action in rule.get("Actions", ()) for kind, one in action.items()}
    if next(iter(actions), "") != "S3Action" or "LambdaAction" not in actions:
        found.append(problem(f"expected to store, then to invoke the function; got {', '.join(actions)}"))
    else:
        found += [problem(text) for text in _elsewhere(config, actions["S3Action"], actions["LambdaAction"])]
    yield from found or [Finding("rules", config.rule_set, State.OK, f"active, {len(recipients)} recipients")]


def _elsewhere(config: Config, store: Mapping[str, Any], invoke: Mapping[str, Any]) -> Iterable[str]:
    """What the actions of the rule name that is not ours."""
    wanted = (
        ("stores mail in the bucket", store.get("BucketName", ""), config.bucket),
        ("stores mail under the prefix", store.get("ObjectKeyPrefix", ""), layout.INCOMING),
        # The reconciler learns there of mail that the function missed.
        ("tells the topic", _name(store.get("TopicArn", "")), config.arrivals_queue),
        ("invokes the function", _name(invoke.get("FunctionArn", "")), config.function),
    )
    for what, got, expected in wanted:
        if got != expected:
            yield f"the rule {config.rule} {what} {got or '(none)'}; expected {expected}"


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]


def bucket(patient: Patient) -> Iterable[Finding]:
    """The bucket: who may do what, whether versions are kept, whether it tells of new entries."""
    s3, name = patient.client("s3"), patient.config.bucket

    def answer(ask: Any, absent: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = ask(Bucket=name)
            return found
        except ClientError as error:
            if error.response["Error"]["Code"] == absent:
                return {}
            raise

    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        yield Finding("bucket", name, State.PROBLEM, "there is no such bucket: no mail can be kept", DEPLOY)
        return
    policy = answer(s3.get_bucket_policy, "NoSuchBucketPolicy").get("Policy", "{}")
    block = answer(s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration")
    versioning = answer(s3.get_bucket_versioning, "")
    told = answer(s3.get_bucket_notification_configuration, "")
    yield from bucket_findings(patient.config, json.loads(policy), block, versioning, told)


def bucket_findings(
    config: Config,
    policy: Mapping[str, Any],
    block: Mapping[str, Any],
    versioning: Mapping[str, Any],
    notification: Mapping[str, Any],
) -> Iterable[Finding]:
    """What S3 answered of the bucket's policy, public access, versions and notifications."""

    def problem(text: str) -> Finding:
        return Finding("bucket", config.bucket, State.PROBLEM, text, BY_HAND)

    found = []
    statements = _list(policy.get("Statement", ()))
    if not any(_stores(config, one) for one in statements):
        found.append(problem(f"its policy does not let SES's rule {config.rule} store mail: SES drops it"))
    if not any(_only_tls(one) for one in statements):
        found.append(problem("its policy does not refuse connections without TLS"))
    if any(
        one.get("Effect") == "Allow" and one.get("Principal") in ("*", {"AWS": "*"}) for one in statements
    ):
        found.append(problem("its policy allows something to everybody"))
    shut = block.get("PublicAccessBlockConfiguration", {})
    names = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    if not all(shut.get(one) for one in names):
        found.append(problem("public access is not blocked"))
    if versioning.get("Status") != "Enabled":
        found.append(problem("it keeps no versions: what is deleted is gone"))
    prefixes = {_prefix(one) for one in notification.get("TopicConfigurations", ())}
    silent = [one for one in (layout.MANIFEST, layout.STATE) if one not in prefixes]
    if silent:
        found.append(problem(f"it tells nobody of new objects under {' and '.join(silent)}: mail comes late"))
    yield from found or [
        Finding("bucket", config.bucket, State.OK, "policy, versions and notifications are right")
    ]


def queues(patient: Patient) -> Iterable[Finding]:
    """Each server's queue, and the reconciler's: there, subscribed to its topic, and open to it."""
    sns, sqs, config = patient.client("sns"), patient.client("sqs"), patient.config
    pages = sns.get_paginator("list_subscriptions").paginate()
    subscriptions = [one for page in pages for one in page["Subscriptions"]]
    topics = {config.queue(server): config.topic for server in config.servers}
    # Topic and queue of arrivals have one name.
    topics[config.arrivals_queue] = config.arrivals_queue
    for name, topic in topics.items():
        try:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except sqs.exceptions.QueueDoesNotExist:
            yield Finding("queues", name, State.PROBLEM, "there is no such queue", DEPLOY)
            continue
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        own = [
            one
            for one in subscriptions
            if one["Endpoint"] == attributes["QueueArn"] and one["TopicArn"].endswith(f":{topic}")
        ]
        raw = bool(own) and sns.get_subscription_attributes(SubscriptionArn=own[0]["SubscriptionArn"])[
            "Attributes"
        ].get("RawMessageDelivery")
        yield queue_finding(name, topic, attributes, bool(own), raw == "true")


def queue_finding(
    name: str, topic: str, attributes: Mapping[str, str], subscribed: bool, raw: bool
) -> Finding:
    """What SQS and SNS say of the queue *name*, which *topic* writes to."""
    if not subscribed:
        text = f"is not subscribed to the topic {topic}: mail comes late"
        return Finding("queues", name, State.PROBLEM, text, BY_HAND)
    statements = _list(json.loads(attributes.get("Policy") or "{}").get("Statement", ()))
    if not any(_from_topic(topic, one) for one in statements):
        text = f"its policy does not let the topic {topic} send: mail comes late"
        return Finding("queues", name, State.PROBLEM, text, BY_HAND)
    if not raw:
        return Finding("queues", name, State.WARNING, "its messages are wrapped by the topic", BY_HAND)
    waiting = int(attributes.get("ApproximateNumberOfMessages", 0))
    return Finding("queues", name, State.OK, f"subscribed; {waiting} messages wait")


def dead_letters(patient: Patient) -> Iterable[Finding]:
    """What the function gave up on."""
    sqs, name = patient.client("sqs"), patient.config.dead_letter_queue
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        yield Finding("dead letters", name, State.PROBLEM, "there is no such queue", DEPLOY)
        return
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))["Attributes"]
    if count := sum(int(told[one]) for one in _DEPTHS):
        remedy = "see what they are, then bring them into the log: ./inv dlq --retry"
        yield Finding("dead letters", name, State.PROBLEM, f"{count} events ended there", remedy)
    else:
        yield Finding("dead letters", name, State.OK, "empty")


def _list(value: Any) -> Sequence[Mapping[str, Any]]:
    return [value] if isinstance(value, Mapping) else list(value)


def _values(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _stores(config: Config, statement: Mapping[str, Any]) -> bool:
    source = json.dumps(statement.get("Condition", {}))
    rule = f"receipt-rule-set/{config.rule_set}:receipt-rule/{config.rule}"
    principal = statement.get("Principal")
    return (
        statement.get("Effect") == "Allow"
        and isinstance(principal, Mapping)
        and "ses.amazonaws.com" in _values(principal.get("Service"))
        and "s3:PutObject" in _values(statement.get("Action"))
        and any(
            one.endswith(f":{config.bucket}/{layout.INCOMING}*") for one in _values(statement.get("Resource"))
        )
        and ("SourceArn" not in source or rule in source)
    )


def _only_tls(statement: Mapping[str, Any]) -> bool:
    condition = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")
    return statement.get("Effect") == "Deny" and str(condition).lower() == "false"


def _from_topic(topic: str, statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal")
    return (
        statement.get("Effect") == "Allow"
        and isinstance(principal, Mapping)
        and "sns.amazonaws.com" in _values(principal.get("Service"))
        and {"sqs:SendMessage", "SQS:SendMessage"} & set(_values(statement.get("Action"))) != set()
        and f":{topic}" in json.dumps(statement.get("Condition", {}))
    )


def _prefix(configuration: Mapping[str, Any]) -> str:
    rules = configuration.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    return next((one["Value"] for one in rules if one["Name"].lower() == "prefix"), "")
