"""CloudFormation resources of SES: receipt rule sets and rules, configuration sets, identities.

Without them LocalStack refuses a template that has them, or, for identities, fails half-way.
Source of the properties: the CloudFormation template reference, "AWS::SES::*".
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from localstack.runtime import hooks
from localstack.services.cloudformation import provider_utils
from localstack.services.cloudformation.resource_provider import (
    CloudFormationResourceProviderPlugin,
    OperationStatus,
    ProgressEvent,
    ResourceProvider,
    ResourceRequest,
)
from localstack.services.ses.resource_providers.aws_ses_emailidentity_plugin import (
    SESEmailIdentityProviderPlugin,
)
from moto.ses.models import ses_backends

SES_PRINCIPAL = "ses.amazonaws.com"


def _schema(kind: str, identifier: str, *fixed: str) -> dict[str, Any]:
    """The part of a resource type's schema that LocalStack reads; *fixed* properties cannot be updated."""
    return {
        "typeName": kind,
        "primaryIdentifier": [f"/properties/{identifier}"],
        "createOnlyProperties": [f"/properties/{name}" for name in fixed],
    }


def _done(model: Mapping[str, Any]) -> ProgressEvent:
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=dict(model))


def _default_name(request: ResourceRequest) -> str:
    name: str = provider_utils.generate_default_name(request.stack_name, request.logical_resource_id)
    # A name in SES has at most 64 characters.
    return name[-64:].lstrip("-")


class ReceiptRuleSet(ResourceProvider):  # type: ignore[misc]
    """``AWS::SES::ReceiptRuleSet``. As in AWS, it is created inactive."""

    TYPE = "AWS::SES::ReceiptRuleSet"
    SCHEMA: ClassVar = _schema(TYPE, "RuleSetName", "RuleSetName")

    def create(self, request: ResourceRequest) -> ProgressEvent:
        model = request.desired_state
        model["RuleSetName"] = model.get("RuleSetName") or _default_name(request)
        request.aws_client_factory.ses.create_receipt_rule_set(RuleSetName=model["RuleSetName"])
        return _done(model)

    def update(self, request: ResourceRequest) -> ProgressEvent:
        return _done({**request.previous_state, **request.desired_state})

    def delete(self, request: ResourceRequest) -> ProgressEvent:
        request.aws_client_factory.ses.delete_receipt_rule_set(
            RuleSetName=request.desired_state["RuleSetName"]
        )
        return _done({})


class ReceiptRule(ResourceProvider):  # type: ignore[misc]
    """``AWS::SES::ReceiptRule``. As in AWS, what the rule needs must let SES in before the rule exists."""

    TYPE = "AWS::SES::ReceiptRule"
    SCHEMA: ClassVar = _schema(TYPE, "Id", "RuleSetName")

    def create(self, request: ResourceRequest) -> ProgressEvent:
        model = request.desired_state
        rule = receipt_rule(model["Rule"], _default_name(request))
        self._check(request, rule)
        after = {"After": model["After"]} if model.get("After") else {}
        request.aws_client_factory.ses.create_receipt_rule(
            RuleSetName=model["RuleSetName"], Rule=rule, **after
        )
        return _done({**model, "Id": rule["Name"]})

    def update(self, request: ResourceRequest) -> ProgressEvent:
        model, name = request.desired_state, request.previous_state["Id"]
        rule = receipt_rule({**model["Rule"], "Name": name}, name)
        self._check(request, rule)
        client = request.aws_client_factory.ses
        client.update_receipt_rule(RuleSetName=model["RuleSetName"], Rule=rule)
        if model.get("After") != request.previous_state.get("After"):
            after = {"After": model["After"]} if model.get("After") else {}
            client.set_receipt_rule_position(RuleSetName=model["RuleSetName"], RuleName=name, **after)
        return _done({**model, "Id": name})

    def delete(self, request: ResourceRequest) -> ProgressEvent:
        model = request.desired_state
        request.aws_client_factory.ses.delete_receipt_rule(
            RuleSetName=model["RuleSetName"], RuleName=model["Id"]
        )
        return _done({})

    def _check(self, request: ResourceRequest, rule: Mapping[str, Any]) -> None:
        for action in rule.get("Actions", ()):
            if bucket := action.get("S3Action", {}).get("BucketName"):
                s3 = request.aws_client_factory.s3
                try:
                    policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
                except s3.exceptions.ClientError:
                    policy = "{}"
                if not admits_ses(policy):
                    raise ValueError(f"Could not write to bucket: {bucket}")
            if function := action.get("LambdaAction", {}).get("FunctionArn"):
                functions = request.aws_client_factory.lambda_
                try:
                    policy = functions.get_policy(FunctionName=function)["Policy"]
                except functions.exceptions.ClientError:
                    policy = "{}"
                if not admits_ses(policy):
                    raise ValueError(f"Invalid Lambda function: {function}")


class ConfigurationSet(ResourceProvider):  # type: ignore[misc]
    """``AWS::SES::ConfigurationSet``."""

    TYPE = "AWS::SES::ConfigurationSet"
    SCHEMA: ClassVar = _schema(TYPE, "Name", "Name")

    def create(self, request: ResourceRequest) -> ProgressEvent:
        model = request.desired_state
        model["Name"] = model.get("Name") or _default_name(request)
        request.aws_client_factory.ses.create_configuration_set(ConfigurationSet={"Name": model["Name"]})
        return _done(model)

    def update(self, request: ResourceRequest) -> ProgressEvent:
        return _done({**request.previous_state, **request.desired_state})

    def delete(self, request: ResourceRequest) -> ProgressEvent:
        name = request.desired_state["Name"]
        request.aws_client_factory.ses.delete_configuration_set(ConfigurationSetName=name)
        return _done({})


class EventDestination(ResourceProvider):  # type: ignore[misc]
    """``AWS::SES::ConfigurationSetEventDestination``, to a topic. moto holds one a configuration set."""

    TYPE = "AWS::SES::ConfigurationSetEventDestination"
    SCHEMA: ClassVar = _schema(TYPE, "Id", "ConfigurationSetName")

    def create(self, request: ResourceRequest) -> ProgressEvent:
        model = request.desired_state
        destination = event_destination(model["EventDestination"], _default_name(request))
        name = model["ConfigurationSetName"]
        topic = destination["SNSDestination"]["TopicARN"]
        policy = request.aws_client_factory.sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
        if not admits_ses(policy):
            raise ValueError(f"Could not publish to SNS topic: {topic}")
        request.aws_client_factory.ses.create_configuration_set_event_destination(
            ConfigurationSetName=name, EventDestination=destination
        )
        return _done({**model, "Id": f"{name}|{destination['Name']}"})

    def update(self, request: ResourceRequest) -> ProgressEvent:
        self._remove(request, request.previous_state)
        return self.create(request)

    def delete(self, request: ResourceRequest) -> ProgressEvent:
        self._remove(request, request.desired_state)
        return _done({})

    def _remove(self, request: ResourceRequest, model: Mapping[str, Any]) -> None:
        name, _, destination = model["Id"].partition("|")
        request.aws_client_factory.ses.delete_configuration_set_event_destination(
            ConfigurationSetName=name, EventDestinationName=destination
        )


class EmailIdentity(ResourceProvider):  # type: ignore[misc]
    """``AWS::SES::EmailIdentity``: a domain or an address. It counts as verified at once."""

    TYPE = "AWS::SES::EmailIdentity"
    SCHEMA: ClassVar = _schema(TYPE, "EmailIdentity", "EmailIdentity")

    def create(self, request: ResourceRequest) -> ProgressEvent:
        model, client = request.desired_state, request.aws_client_factory.ses
        identity = model["EmailIdentity"]
        if "@" in identity:
            client.verify_email_identity(EmailAddress=identity)
        else:
            client.verify_domain_identity(Domain=identity)
            tokens = client.verify_domain_dkim(Domain=identity)["DkimTokens"]
            for number, token in enumerate(tokens, 1):
                model[f"DkimDNSTokenName{number}"] = f"{token}._domainkey.{identity}"
                model[f"DkimDNSTokenValue{number}"] = f"{token}.dkim.amazonses.com"
        return self.update(request)

    def update(self, request: ResourceRequest) -> ProgressEvent:
        model = {**(request.previous_state or {}), **request.desired_state}
        mail_from = model.get("MailFromAttributes") or {}
        if mail_from.get("MailFromDomain"):
            behaviour = {"USE_DEFAULT_VALUE": "UseDefaultValue", "REJECT_MESSAGE": "RejectMessage"}
            request.aws_client_factory.ses.set_identity_mail_from_domain(
                Identity=model["EmailIdentity"],
                MailFromDomain=mail_from["MailFromDomain"],
                BehaviorOnMXFailure=behaviour[mail_from.get("BehaviorOnMxFailure", "USE_DEFAULT_VALUE")],
            )
        name = (model.get("ConfigurationSetAttributes") or {}).get("ConfigurationSetName")
        # No operation of the API's first version says it.
        identities = ses_backends[request.account_id][request.region_name].email_identities
        identities[model["EmailIdentity"]].configuration_set_name = name
        return _done(model)

    def delete(self, request: ResourceRequest) -> ProgressEvent:
        request.aws_client_factory.ses.delete_identity(Identity=request.desired_state["EmailIdentity"])
        return _done({})


def event_destination(properties: Mapping[str, Any], default_name: str) -> dict[str, Any]:
    """The ``EventDestination`` of the SES API from the one of a template."""
    topic = (properties.get("SnsDestination") or {}).get("TopicARN")
    if not topic:
        raise ValueError("EventDestination: expected SnsDestination, which is the only kind emulated")
    return {
        "Name": properties.get("Name") or default_name,
        "Enabled": str(properties.get("Enabled", False)).lower() == "true",
        "MatchingEventTypes": list(properties["MatchingEventTypes"]),
        "SNSDestination": {"TopicARN": topic},
    }


def receipt_rule(properties: Mapping[str, Any], default_name: str) -> dict[str, Any]:
    """The ``Rule`` of the SES API from the ``Rule`` of a template, whose booleans may be strings."""
    rule = {"Name": default_name, **properties}
    for name in ("Enabled", "ScanEnabled"):
        if name in rule:
            rule[name] = str(rule[name]).lower() == "true"
    return rule


def admits_ses(policy: str) -> bool:
    """Whether a resource *policy* (JSON) allows anything to the SES service."""
    for statement in json.loads(policy).get("Statement", ()):
        principal = statement.get("Principal")
        services = principal.get("Service", ()) if isinstance(principal, dict) else ()
        if statement.get("Effect") == "Allow" and SES_PRINCIPAL in (
            [services] if isinstance(services, str) else services
        ):
            return True
    return False


class _Plugin(CloudFormationResourceProviderPlugin):  # type: ignore[misc]
    resource: ClassVar[type]

    def load(self, *args: object, **kwargs: object) -> None:
        self.factory = self.resource


class ReceiptRuleSetPlugin(_Plugin):
    name = ReceiptRuleSet.TYPE
    resource = ReceiptRuleSet


class ReceiptRulePlugin(_Plugin):
    name = ReceiptRule.TYPE
    resource = ReceiptRule


class ConfigurationSetPlugin(_Plugin):
    name = ConfigurationSet.TYPE
    resource = ConfigurationSet


class EventDestinationPlugin(_Plugin):
    name = EventDestination.TYPE
    resource = EventDestination


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def replace_email_identity() -> None:
    """Put `EmailIdentity` in the place of the stock provider, which is a scaffold that always fails.

    Two plugins of one name would be picked by the order of folders, so the stock plugin itself is redirected.
    """

    def load(plugin: Any, *args: object, **kwargs: object) -> None:
        plugin.factory = EmailIdentity

    SESEmailIdentityProviderPlugin.load = load
