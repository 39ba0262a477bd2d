"""Who called what, written down: a line of JSON for each call, in ``calls.jsonl`` of the state folder.

IAM is not enforced here, so nothing fails that AWS would refuse. The record shows what each user and role did
and can be held against their policies. Calls that LocalStack makes for a service (Lambda writing the
log of a function as its role) are recorded as those of that role, and marked.
"""

import json
import threading
from collections.abc import Collection, Mapping
from typing import Any

from localstack.runtime import hooks
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from twinmail_localstack import settings
from twinmail_localstack.callers import Caller
from twinmail_localstack.sending import ACTION, Senders, identity_of

FILE = "calls.jsonl"
_TEXT = 1024
# What may be secret, or is a document.
_LEFT_OUT = frozenset(
    {"Body", "MessageBody", "SecretAccessKey", "PolicyDocument", "TemplateBody", "RawMessage"}
)

_guard = threading.Lock()


def principal(access_key: str) -> str:
    """``user/NAME`` or ``role/NAME`` of *access_key*; ``key/ID`` for the account's root and strangers."""
    # First the roles: IAM knows their keys too, as nobody's.
    for sessions in list(sts_backends.values()):
        for sts in list(sessions.values()):
            for role in list(sts.assumed_roles):
                if role.access_key_id == access_key:
                    return f"role/{role.role_arn.rpartition('/')[2]}"
    for users in list(iam_backends.values()):
        for backend in list(users.values()):
            if key := backend.access_keys.get(access_key):
                return f"user/{key.user_name}"
    return f"key/{access_key}"


def sending(
    found: Senders,
    caller: Caller | None,
    identity: str,
    identities: Collection[str],
    configuration_set: str,
    name: str,
) -> None:
    """Write down a message that is sent, with what policies ask of it.

    Args:
        identity, configuration_set: ARNs of them without their names.
        name: of the configuration set, which SES asks for also where it is the identity's default.
    """
    if not settings.current().record:
        return
    resources = [f"{identity}{identity_of(one, identities) or one}" for one in (*found.from_, found.envelope)]
    resources += [f"{configuration_set}{name}"] if name else []
    _write(
        {
            "principal": f"user/{caller.name}" if caller else "key/root",
            "action": ACTION,
            "resources": list(dict.fromkeys(resources)),
            "context": {"ses:FromAddress": list(found.from_), "ses:FeedbackAddress": [found.envelope]},
        }
    )


def _call(chain: Any, context: Any, response: Any) -> None:
    operation = context.service_operation
    if operation is None:
        return
    authorization = context.request.headers.get("Authorization", "")
    access_key = authorization.partition("Credential=")[2].partition("/")[0]
    _write(
        {
            "principal": principal(access_key),
            "internal": context.is_internal_call,
            "service": operation.service,
            "operation": operation.operation,
            "parameters": _plain(context.service_request or {}),
            "status": response.status_code,
        }
    )


def _plain(request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in request.items()
        if name not in _LEFT_OUT
        and (isinstance(value, bool | int) or (isinstance(value, str) and len(value) <= _TEXT))
    }


def _write(entry: Mapping[str, Any]) -> None:
    line = json.dumps(entry) + "\n"
    with _guard, (settings.current().state / FILE).open("a", encoding="utf-8") as stream:
        stream.write(line)


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def record_calls() -> None:
    """Look at every answer, if that is wanted."""
    if settings.current().record:
        from localstack.aws import handlers

        handlers.run_custom_response_handlers.append(_call)
