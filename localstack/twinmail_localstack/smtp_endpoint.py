"""What the SES edge asks LocalStack, by HTTP on the same address: who may log in, what is to be delivered.

====================================  ==================================================================
``POST /_twinmail/smtp/login``        ``{"user", "password"}``: 204, or 403
``POST /_twinmail/smtp/messages``     a message, with its envelope in ``X-Twinmail-Envelope`` (JSON): 200
                                      ``{"id"}``, or 400 ``{"code", "text"}``
``GET /_twinmail/outbox``             200 with what is known of the next message, or 204 after some seconds
``GET /_twinmail/outbox/<id>``        the message itself
``DELETE /_twinmail/outbox/<id>``     it is delivered; ``?again``: it is not
====================================  ==================================================================
"""

import base64
import hmac
import json
from typing import Any

import localstack.http
import werkzeug.wrappers
from localstack.aws.accounts import get_account_id_from_access_key_id
from localstack.http import Resource, Response
from localstack.runtime import hooks

from twinmail.smtp_credentials import smtp_password
from twinmail_localstack import settings
from twinmail_localstack.access_keys import note_use
from twinmail_localstack.callers import caller_of
from twinmail_localstack.dispatch import dispatch
from twinmail_localstack.outbox import outbox
from twinmail_localstack.sending import API_LIMIT, SMTP_LIMIT, Refused, Request

ENVELOPE = "X-Twinmail-Envelope"
WAIT_SECONDS = 10.0


class Login:
    """Whether a user name (access key id) and an SMTP password belong together, now."""

    def on_post(self, request: Any) -> Response:
        """Check one pair."""
        given = json.loads(request.data)
        caller = caller_of(str(given["user"]))
        if caller is None:
            return Response(status=403)
        expected = smtp_password(caller.secret, settings.current().region)
        right = hmac.compare_digest(expected.encode(), str(given["password"]).encode())
        if right:
            note_use(str(given["user"]), "ses", settings.current().region)
        return Response(status=204 if right else 403)


class Messages:
    """What the SMTP endpoint accepted from a client."""

    def on_post(self, request: Any) -> Response:
        """Send one."""
        envelope = json.loads(base64.b64decode(request.headers[ENVELOPE]))
        user = str(envelope["user"])
        caller = caller_of(user)
        if caller is None and not envelope["root"]:
            return _json(400, {"code": "AccessDenied", "text": "The security token is invalid"})
        wanted = Request(envelope["source"], tuple(envelope["destinations"]), request.data)
        account = caller.account if caller else get_account_id_from_access_key_id(user)
        region = settings.current().region
        try:
            sent = dispatch(wanted, caller, account, region, "SendSmtpEmail", SMTP_LIMIT)
        except Refused as error:
            return _json(400, {"code": error.code, "text": str(error)})
        return _json(200, {"id": sent.ses_id})


class Next:
    """The next message to deliver."""

    def on_get(self, request: Any) -> Response:
        """Wait for it."""
        sent = outbox().take(WAIT_SECONDS)
        return Response(status=204) if sent is None else _json(200, sent.describe())


class One:
    """One message to deliver."""

    def on_get(self, request: Any, ses_id: str) -> Response:
        """Its octets."""
        data = outbox().data(ses_id)
        return Response(status=404) if data is None else Response(data, mimetype="message/rfc822")

    def on_delete(self, request: Any, ses_id: str) -> Response:
        """It is done with, or due again."""
        if "again" in request.args:
            outbox().give_back(ses_id)
        else:
            outbox().remove(ses_id)
        return Response(status=204)


def _json(status: int, document: Any) -> Response:
    return Response(json.dumps(document), status=status, mimetype="application/json")


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def take_large_messages() -> None:
    """Take messages of SES's size by the API: the stock limit on a form is half a megabyte."""
    for one in (localstack.http.Request, werkzeug.wrappers.Request):
        # Base64, with percent signs for what of it a form must not hold.
        one.max_form_memory_size = 2 * API_LIMIT


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def serve_edge() -> None:
    """Add the paths to LocalStack's own."""
    from localstack.services.edge import ROUTER

    for path, resource in (
        ("/_twinmail/smtp/login", Login()),
        ("/_twinmail/smtp/messages", Messages()),
        ("/_twinmail/outbox", Next()),
        ("/_twinmail/outbox/<ses_id>", One()),
    ):
        ROUTER.add(Resource(path, resource))


@hooks.on_infra_shutdown()  # type: ignore[untyped-decorator]
def let_edge_go() -> None:
    """Answer the edge that waits for a message: LocalStack stops when all requests have ended."""
    outbox().close()
