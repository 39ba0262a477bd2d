"""Delivery status notifications: how a Bounce action answers the sender (RFC 3464). Pure."""

from collections.abc import Sequence
from email.message import EmailMessage, Message
from email.utils import format_datetime

from twinmail_localstack.edge.headers import header_block
from twinmail_localstack.edge.receipt import Bounce
from twinmail_localstack.edge.reception import Reception

_HEADER_LIMIT = 64 * 1024


def notification(reception: Reception, bounce: Bounce, recipients: Sequence[str], region: str) -> bytes:
    """The message that tells the sender of *reception* that *recipients* did not get it."""
    host = f"inbound-smtp.{region}.amazonaws.com"
    report = EmailMessage()
    report["From"] = bounce.sender
    report["To"] = reception.mail_from
    report["Subject"] = "Delivery Status Notification (Failure)"
    report["Auto-Submitted"] = "auto-replied"
    report.set_content(f"{bounce.message}\n\n" + "".join(f"{one}\n" for one in recipients))
    report.make_mixed()
    report.attach(_status(reception, bounce, recipients, host))
    report.attach(_original(reception))
    report.replace_header("Content-Type", 'multipart/report; report-type="delivery-status"')
    return report.as_bytes()


def _status(reception: Reception, bounce: Bounce, recipients: Sequence[str], host: str) -> Message:
    whole = Message()
    whole["Reporting-MTA"] = f"dns; {host}"
    whole["Arrival-Date"] = format_datetime(reception.arrived)
    groups = [whole]
    for recipient in recipients:
        group = Message()
        group["Final-Recipient"] = f"rfc822; {recipient}"
        group["Action"] = "failed"
        group["Status"] = bounce.status
        group["Diagnostic-Code"] = f"smtp; {bounce.reply_code} {bounce.status} {bounce.message}"
        groups.append(group)
    status = Message()
    status["Content-Type"] = "message/delivery-status"
    status.set_payload(groups)
    return status


def _original(reception: Reception) -> Message:
    original = Message()
    original["Content-Type"] = "text/rfc822-headers"
    original["Content-Transfer-Encoding"] = "7bit"
    block = header_block(reception.content)[:_HEADER_LIMIT]
    original.set_payload(block.decode("ascii", "replace").encode("ascii", "replace").decode("ascii"))
    return original
