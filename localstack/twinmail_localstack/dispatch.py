"""Taking a message for sending, by whichever way it comes: the API, or the SMTP endpoint of the edge."""

import time
import uuid
from datetime import UTC, datetime
from typing import Any

from localstack.services.ses.models import SentEmail
from localstack.services.ses.provider import save_for_retrospection
from moto.ses.models import ses_backends

from twinmail_localstack import recording
from twinmail_localstack.callers import Caller
from twinmail_localstack.outbox import outbox
from twinmail_localstack.sending import Refused, Request, check, identity_of
from twinmail_localstack.sent import Report, Sent


def new_message_id(now: float) -> str:
    """An id of the shape that SES gives to what it sends: 16 digits with the time, and a UUID."""
    return f"0107{int(now * 1000):012x}-{uuid.uuid4()}-000000"


def dispatch(
    request: Request,
    caller: Caller | None,
    account: str,
    region: str,
    operation: str,
    limit: int,
    configuration_set: str = "",
) -> Sent:
    """Check *request* as SES does, and put it into the outbox.

    Raises:
        Refused: it is not sent.
    """
    backend = ses_backends[account][region]
    identities = dict(backend.email_identities)
    arn = f"arn:aws:ses:{region}:{account}:identity/"
    try:
        found = check(request, caller, identities, arn, limit)
    except Refused:
        backend.rejected_messages_count += 1
        raise
    identity = identity_of(found.from_[0], identities) or found.from_[0]
    name = configuration_set or getattr(identities.get(identity), "configuration_set_name", None) or ""
    if configuration_set and configuration_set not in backend.config_sets:
        raise Refused(
            "ConfigurationSetDoesNotExist", f"Configuration set <{configuration_set}> does not exist."
        )
    recording.sending(
        found, caller, arn, identities, f"arn:aws:ses:{region}:{account}:configuration-set/", name
    )
    sent = Sent(
        ses_id=new_message_id(time.time()),
        at=datetime.now(UTC),
        source=found.envelope,
        destinations=tuple(dict.fromkeys(request.destinations)),
        account=account,
        source_arn=f"{arn}{identity}",
        caller=caller.name if caller else "root",
        operation=operation,
        configuration_set=name,
        reports=_reports(backend, name),
        identities=tuple(one for one in identities if "@" not in one),
        data=request.data,
    )
    backend.sent_message_count += len(sent.destinations)
    text = sent.data.decode("utf-8", "replace")
    save_for_retrospection(
        SentEmail(
            Id=sent.ses_id,
            Region=region,
            Source=sent.source,
            RawData=text,
            Destination={"ToAddresses": list(sent.destinations)},
        )
    )
    outbox().add(sent)
    return sent


def _reports(backend: Any, configuration_set: str) -> tuple[Report, ...]:
    """The topics of a configuration set; moto holds one event destination each."""
    found = backend.config_set_event_destination.get(configuration_set)
    if not found or str(found.get("Enabled")).lower() != "true":
        return ()
    topic = (found.get("SNSDestination") or {}).get("TopicARN")
    events = found.get("MatchingEventTypes") or ()
    return (Report(topic, frozenset(event.lower() for event in events)),) if topic else ()
