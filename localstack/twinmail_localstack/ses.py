"""SES with the receipt-rule operations that the stock provider lacks, and SES's rules for what is sent."""

from typing import Any

from localstack.aws.api import CommonServiceException, RequestContext, handler
from localstack.aws.api.ses import (
    AlreadyExistsException,
    CreateReceiptRuleResponse,
    DeleteReceiptRuleResponse,
    RuleSetDoesNotExistException,
    SendRawEmailResponse,
    SetReceiptRulePositionResponse,
)
from localstack.services.moto import MotoFallbackDispatcher, call_moto
from localstack.services.plugins import Service, aws_provider
from localstack.services.ses.provider import SesProvider, get_ses_backend
from localstack.utils.aws.request_context import extract_access_key_id_from_auth_header

from twinmail_localstack.callers import caller_of
from twinmail_localstack.dispatch import dispatch
from twinmail_localstack.sending import API_LIMIT, Refused, Request, recipients


class Ses(SesProvider):  # type: ignore[misc]
    """The stock provider, with rules that are told apart by name, and can be moved and deleted.

    What is sent is checked as by SES, and delivered by the edge.
    """

    @handler("SendRawEmail", expand=False)  # type: ignore[untyped-decorator]
    def send_raw_email(self, context: RequestContext, request: Any) -> SendRawEmailResponse:
        """Send a message as it is; the stock provider takes no octets but UTF-8."""
        data = request["RawMessage"]["Data"]
        octets = data.encode() if isinstance(data, str) else bytes(data)
        key = extract_access_key_id_from_auth_header(context.request.headers) or ""
        destinations = tuple(request.get("Destinations") or ()) or recipients(octets)
        try:
            sent = dispatch(
                Request(request.get("Source") or "", destinations, octets),
                caller_of(key),
                context.account_id,
                context.region,
                "SendRawEmail",
                API_LIMIT,
                request.get("ConfigurationSetName") or "",
            )
        except Refused as error:
            status = 403 if error.code == "AccessDenied" else 400
            raise CommonServiceException(
                error.code, str(error), status_code=status, sender_fault=True
            ) from error
        return SendRawEmailResponse(MessageId=sent.ses_id)

    @handler("CreateReceiptRule", expand=False)  # type: ignore[untyped-decorator]
    def create_receipt_rule(self, context: RequestContext, request: Any) -> CreateReceiptRuleResponse:
        """Refuse a second rule of the same name, which moto takes."""
        name = request["Rule"]["Name"]
        rule_set = get_ses_backend(context).receipt_rule_set.get(request["RuleSetName"])
        if rule_set is not None and any(rule["Name"] == name for rule in rule_set.rules):
            raise AlreadyExistsException(f"Rule already exists: {name}", Name=name)
        return call_moto(context)

    @handler("DeleteReceiptRule")  # type: ignore[untyped-decorator]
    def delete_receipt_rule(
        self, context: RequestContext, rule_set_name: str, rule_name: str, **kwargs: Any
    ) -> DeleteReceiptRuleResponse:
        """Delete a rule; as in AWS, a rule that does not exist is no error."""
        rules = self._rules(context, rule_set_name)
        rules[:] = [rule for rule in rules if rule["Name"] != rule_name]
        return DeleteReceiptRuleResponse()

    @handler("SetReceiptRulePosition")  # type: ignore[untyped-decorator]
    def set_receipt_rule_position(
        self,
        context: RequestContext,
        rule_set_name: str,
        rule_name: str,
        after: str | None = None,
        **kwargs: Any,
    ) -> SetReceiptRulePositionResponse:
        """Move a rule behind the rule *after*, or to the front."""
        rules = self._rules(context, rule_set_name)
        names = [rule["Name"] for rule in rules]
        for name in (rule_name, *([after] if after else [])):
            if name not in names:
                raise CommonServiceException("RuleDoesNotExist", f"Rule does not exist: {name}")
        moved = rules.pop(names.index(rule_name))
        rules.insert(1 + [rule["Name"] for rule in rules].index(after) if after else 0, moved)
        return SetReceiptRulePositionResponse()

    def _rules(self, context: RequestContext, rule_set_name: str) -> list[dict[str, Any]]:
        rule_set = get_ses_backend(context).receipt_rule_set.get(rule_set_name)
        if rule_set is None:
            raise RuleSetDoesNotExistException(
                f"Rule set does not exist: {rule_set_name}", Name=rule_set_name
            )
        rules: list[dict[str, Any]] = rule_set.rules
        return rules


@aws_provider(api="ses", name="receiving")  # type: ignore[untyped-decorator]
def ses() -> Service:
    """``PROVIDER_OVERRIDE_SES=receiving``."""
    return Service.for_provider(Ses(), dispatch_table_factory=MotoFallbackDispatcher)
