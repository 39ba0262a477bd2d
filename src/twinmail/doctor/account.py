"""The account at AWS, and what SES says of it and of our domains."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from twinmail.config import Config
from twinmail.deploy.credentials import every
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Patient

CLOCK_WARNING, CLOCK_PROBLEM = timedelta(seconds=30), timedelta(minutes=4)
"""AWS refuses requests that are signed 5 minutes before or after its own time."""
KEY_DAYS = 365
_SET_CLOCK = "set it by NTP: timedatectl set-ntp true"
_SIGN_IN = "sign in, or mend ~/.aws and AWS_PROFILE: aws configure; a system to try out needs none: ./inv up"
_BAD_CREDENTIALS = (
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "AuthFailure",
    "InvalidAccessKeyId",
)
_NO_CREDENTIALS = (
    ConfigParseError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
QUOTA_SHARE = 0.8
PLAN_DAYS = 30


def credentials(patient: Patient) -> Iterable[Finding]:
    """Who we are to AWS."""
    config = patient.config
    try:
        told = patient.client("sts").get_caller_identity()
    except ClientError as error:
        ahead = _ahead(patient, error.response)
        if ahead is not None and abs(ahead) >= CLOCK_PROBLEM:
            text = "AWS does not accept them, for this machine's clock is wrong"
            yield Finding("credentials", config.region, State.PROBLEM, text, _SET_CLOCK)
            return
        if error.response["Error"]["Code"] not in _BAD_CREDENTIALS:
            raise
        yield Finding("credentials", config.region, State.PROBLEM, " ".join(str(error).split()), _SIGN_IN)
        return
    except _NO_CREDENTIALS as error:
        yield Finding("credentials", config.region, State.PROBLEM, " ".join(str(error).split()), _SIGN_IN)
        return
    text = f"{told['Arn']}, account {told['Account']}, region {config.region}"
    if told["Arn"].endswith(":root") and not patient.local:
        remedy = "sign in as a user that may deploy, and put the keys of root away: ./inv deploy policy"
        yield Finding("credentials", config.region, State.WARNING, f"{text}: the root of the account", remedy)
    else:
        yield Finding("credentials", config.region, State.OK, text)


def clock(patient: Patient) -> Iterable[Finding]:
    """This machine's clock, beside that of AWS."""
    try:
        answer = patient.client("sts").get_caller_identity()
    except ClientError as error:
        # That is how AWS answers a clock that is far off; the answer has a Date like any other.
        answer = error.response
    ahead = _ahead(patient, answer)
    if ahead is None:
        yield Finding("clock", "this machine", State.UNKNOWN, "the answer of AWS has no Date")
    else:
        yield clock_finding("this machine", ahead, "AWS")


def _ahead(patient: Patient, answer: Mapping[str, Any]) -> timedelta | None:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    # HTTP-date, RFC 9110, 5.6.7.
    return patient.now() - parsedate_to_datetime(date) if date else None


def clock_finding(subject: str, ahead: timedelta, other: str) -> Finding:
    """A clock that is *ahead* of an *other* one (or behind, if that is negative)."""
    seconds = f"{abs(ahead.total_seconds()):.0f} s {'ahead of' if ahead > timedelta() else 'behind'} {other}"
    if abs(ahead) >= CLOCK_PROBLEM:
        text = f"{seconds}: AWS refuses what is signed so"
        return Finding("clock", subject, State.PROBLEM, text, _SET_CLOCK)
    if abs(ahead) >= CLOCK_WARNING:
        return Finding("clock", subject, State.WARNING, seconds, _SET_CLOCK)
    return Finding("clock", subject, State.OK, seconds)


def sending(patient: Patient) -> Iterable[Finding]:
    """What SES lets the account do (SES API v2, GetAccount), and the plan of the account itself."""
    yield from sending_findings(patient.client("sesv2").get_account())
    yield from _plan(patient)


def sending_findings(account: Mapping[str, Any]) -> Iterable[Finding]:
    """What *account* says."""
    check, subject = "sending", "SES"
    if not account.get("ProductionAccessEnabled"):
        yield Finding(
            check,
            subject,
            State.PROBLEM,
            "the account is in the sandbox: it sends to verified addresses alone",
            "ask for production access: SES console, Account dashboard; or aws sesv2 put-account-details",
        )
    status = account.get("EnforcementStatus", "HEALTHY")
    if status != "HEALTHY" or not account.get("SendingEnabled"):
        state = State.WARNING if status == "PROBATION" and account.get("SendingEnabled") else State.PROBLEM
        enabled = "is on" if account.get("SendingEnabled") else "is off"
        remedy = "read what SES wrote to the owner of the account, and answer it in the SES console"
        yield Finding(check, subject, state, f"status {status}, sending {enabled}", remedy)
    quota = account.get("SendQuota", {})
    most, sent = quota.get("Max24HourSend", 0.0), quota.get("SentLast24Hours", 0.0)
    text = f"{sent:.0f} of {most:.0f} messages in the last 24 hours"
    if most > 0 and sent >= QUOTA_SHARE * most:
        yield Finding(check, "quota", State.WARNING, text, "ask for more: Service Quotas console, SES")
    else:
        yield Finding(check, "quota", State.OK, text if most >= 0 else f"{sent:.0f} messages, no limit")


def _plan(patient: Patient) -> Iterable[Finding]:
    try:
        told = patient.client("freetier").get_account_plan_state()
    except (BotoCoreError, ClientError) as error:
        text = " ".join(str(error).split())[:200]
        yield Finding("sending", "account plan", State.UNKNOWN, text)
        return
    yield plan_finding(told, patient.now())


def plan_finding(told: Mapping[str, Any], now: datetime) -> Finding:
    """What the Free Tier API says of the plan of the account (GetAccountPlanState)."""
    kind, status = told.get("accountPlanType", ""), told.get("accountPlanStatus", "")
    if kind != "FREE":
        return Finding("sending", "account plan", State.OK, "paid")
    ends = told.get("accountPlanExpirationDate")
    left = f", ends {ends:%Y-%m-%d}" if ends else ""
    soon = status == "EXPIRED" or (ends is not None and ends - now < timedelta(days=PLAN_DAYS))
    remedy = "a free plan ends with the account closed, and mail with it: upgrade it in the Billing console"
    return Finding(
        "sending", "account plan", State.PROBLEM if soon else State.WARNING, f"free, {status}{left}", remedy
    )


def identities(patient: Patient) -> Iterable[Finding]:
    """Each domain at SES: verified, signed, with its own envelope sender."""
    ses = patient.client("sesv2")
    for domain in patient.config.domains:
        try:
            told = ses.get_email_identity(EmailIdentity=domain)
        except ses.exceptions.NotFoundException:
            remedy = "./inv deploy cloud"
            yield Finding("identities", domain, State.PROBLEM, "SES does not know the domain", remedy)
            continue
        yield from identity_findings(patient.config, domain, told)


def identity_findings(config: Config, domain: str, told: Mapping[str, Any]) -> Iterable[Finding]:
    """What GetEmailIdentity *told* of *domain*."""
    check, records = "identities", "put the records there that ./inv dns prints; ./inv dns --check compares"
    dkim = told.get("DkimAttributes", {})
    status = dkim.get("Status", "NOT_STARTED")
    if not told.get("VerifiedForSendingStatus") or status != "SUCCESS":
        verified = "verified" if told.get("VerifiedForSendingStatus") else "not verified"
        pending = status == "PENDING" and bool(told.get("VerifiedForSendingStatus"))
        state = State.WARNING if pending else State.PROBLEM
        yield Finding(check, domain, state, f"{verified}, DKIM {status}", records)
    elif not dkim.get("SigningEnabled"):
        yield Finding(check, domain, State.PROBLEM, "SES does not sign (DKIM)", "./inv deploy cloud")
    else:
        yield Finding(check, domain, State.OK, "verified, signed by DKIM")
    envelope = told.get("MailFromAttributes", {})
    name, wanted = envelope.get("MailFromDomain", ""), config.mail_from(domain)
    if name != wanted:
        text = f"expected {wanted}, got {name or 'that of SES'}"
        yield Finding(check, f"{domain} MAIL FROM", State.WARNING, text, "./inv deploy cloud")
    elif envelope.get("MailFromDomainStatus") != "SUCCESS":
        text = f"{name}: {envelope.get('MailFromDomainStatus')}; SPF does not align until then"
        yield Finding(check, f"{domain} MAIL FROM", State.WARNING, text, records)
    else:
        yield Finding(check, f"{domain} MAIL FROM", State.OK, name)
    if told.get("ConfigurationSetName") != config.configuration_set:
        text = (
            f"configuration set: expected {config.configuration_set}, got {told.get('ConfigurationSetName')}"
        )
        yield Finding(check, domain, State.PROBLEM, f"{text}: nobody hears of bounces", "./inv deploy cloud")


def keys(patient: Patient) -> Iterable[Finding]:
    """How old the access keys of our users are."""
    iam = patient.client("iam")
    for one in every(patient.config):
        rotate = f"./inv secrets rotate {'smtp' if one.secret.startswith('smtp/') else 'syncer'}"
        try:
            found = iam.list_access_keys(UserName=one.user)["AccessKeyMetadata"]
        except iam.exceptions.NoSuchEntityException:
            yield Finding("keys", one.user, State.PROBLEM, "there is no such user", "./inv deploy cloud")
            continue
        active = [key for key in found if key["Status"] == "Active"]
        if not active:
            text = "has no active access key"
            yield Finding("keys", one.user, State.PROBLEM, text, "deploy the servers: ./inv deploy")
            continue
        days = max((patient.now() - key["CreateDate"]).days for key in active)
        if len(active) > 1:
            remedy = f"finish the change: {rotate} --finish"
            yield Finding("keys", one.user, State.WARNING, "has two active access keys", remedy)
        elif days > KEY_DAYS:
            yield Finding("keys", one.user, State.WARNING, f"its access key is {days} days old", rotate)
        else:
            yield Finding("keys", one.user, State.OK, f"its access key is {days} days old")
