"""Delivery status notifications: how a Bounce action answers the sender (RFC 3464). Pure."""

from collections.abc import Sequence
from email.message import Message
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime

from twinmail_localstack.edge.headers import header_block
from twinmail_localstack.edge.receipt import Bounce
from twinmail_localstack.edge.reception import Reception

_HEADER_LIMIT = 64 * 1024


def report(reception: Reception, bounce: Bounce, recipients: Sequence[str], region: str) -> bytes:
    """The message that tells the sender of *reception* that *recipients* did not get it."""
    whole = MIMEMultipart("report", report_type="delivery-status")
    whole["From"] = bounce.sender
    whole["To"] = reception.mail_from
    whole["Subject"] = "Delivery Status Notification (Failure)"
    whole["Auto-Submitted"] = "auto-replied"
    whole.attach(MIMEText("\n".join([bounce.message, "", *recipients, ""]), "plain", "utf-8"))
    whole.attach(_status(reception, bounce, recipients, region))
    whole.attach(_original(reception))
    return whole.as_bytes()


def _status(reception: Reception, bounce: Bounce, recipients: Sequence[str], region: str) -> MIMEBase:
    whole = Message()
    whole["Reporting-MTA"] = f"dns; inbound-smtp.{region}.amazonaws.com"
    whole["Arrival-Date"] = format_datetime(reception.arrived)
    part = MIMEBase("message", "delivery-status")
    part.attach(whole)
    for recipient in recipients:
        group = Message()
        group["Final-Recipient"] = f"rfc822; {recipient}"
        group["Action"] = "failed"
        group["Status"] = bounce.status
        group["Diagnostic-Code"] = f"smtp; {bounce.reply_code} {bounce.status} {bounce.message}"
        part.attach(group)
    return part


def _original(reception: Reception) -> MIMEBase:
    """The header of the bounced message; what is not ASCII in it is shown as a question mark."""
    part = MIMEBase("text", "rfc822-headers")
    block = header_block(reception.content)[:_HEADER_LIMIT].decode("ascii", "replace")
    part.set_payload(block.replace("\ufffd", "?"))
    return part
