"""The answers that AWS gives when a service is in trouble, in the shape each service has.

Sources: Amazon S3 API reference, "Error responses"; DynamoDB developer guide, "Error handling" (throttles are
400); Amazon SQS and SNS API references, "Common errors".
"""

import json
from http import HTTPStatus

REQUEST_ID = "00000000-0000-4000-8000-000000000000"

_TEXTS = {
    "SlowDown": "Please reduce your request rate.",
    "InternalError": "We encountered an internal error. Please try again.",
    "ThrottlingException": "Rate exceeded",
    "RequestThrottled": "Request is throttled.",
    "Throttled": "Rate exceeded",
    "TooManyRequestsException": "Rate Exceeded.",
}
_ERRORS: dict[tuple[str, HTTPStatus], tuple[int, str]] = {
    ("s3", HTTPStatus.INTERNAL_SERVER_ERROR): (500, "InternalError"),
    ("s3", HTTPStatus.SERVICE_UNAVAILABLE): (503, "SlowDown"),
    ("s3", HTTPStatus.TOO_MANY_REQUESTS): (503, "SlowDown"),
    ("dynamodb", HTTPStatus.INTERNAL_SERVER_ERROR): (500, "InternalServerError"),
    ("dynamodb", HTTPStatus.SERVICE_UNAVAILABLE): (503, "ServiceUnavailable"),
    ("dynamodb", HTTPStatus.TOO_MANY_REQUESTS): (400, "ThrottlingException"),
    ("sqs", HTTPStatus.INTERNAL_SERVER_ERROR): (500, "InternalFailure"),
    ("sqs", HTTPStatus.SERVICE_UNAVAILABLE): (503, "ServiceUnavailable"),
    ("sqs", HTTPStatus.TOO_MANY_REQUESTS): (403, "RequestThrottled"),
    ("sns", HTTPStatus.INTERNAL_SERVER_ERROR): (500, "InternalError"),
    ("sns", HTTPStatus.SERVICE_UNAVAILABLE): (503, "ServiceUnavailable"),
    ("sns", HTTPStatus.TOO_MANY_REQUESTS): (429, "Throttled"),
    ("lambda", HTTPStatus.INTERNAL_SERVER_ERROR): (500, "ServiceException"),
    ("lambda", HTTPStatus.TOO_MANY_REQUESTS): (429, "TooManyRequestsException"),
}
_FALLBACK = {
    HTTPStatus.INTERNAL_SERVER_ERROR: (500, "InternalFailure"),
    HTTPStatus.SERVICE_UNAVAILABLE: (503, "ServiceUnavailable"),
    HTTPStatus.TOO_MANY_REQUESTS: (400, "Throttling"),
}
_NAMESPACES = {"dynamodb": "com.amazonaws.dynamodb.v20120810", "sqs": "com.amazonaws.sqs"}


def error(service: str, status: HTTPStatus, head_only: bool = False) -> bytes:
    """A whole HTTP answer of *service* that ends its connection.

    Args:
        status: 500, 503 or 429; what a service answers in the latter's place (400, 403, 503) is its own.
        head_only: the request was a HEAD.
    """
    number, code = _ERRORS.get((service, status)) or _FALLBACK[status]
    text = _TEXTS.get(code, "The service is unavailable. Please try again.")
    fields = [f"x-amz-request-id: {REQUEST_ID}", f"x-amzn-RequestId: {REQUEST_ID}"]
    if service in _NAMESPACES:
        kind, body = (
            "application/x-amz-json-1.0",
            json.dumps({"__type": f"{_NAMESPACES[service]}#{code}", "message": text}),
        )
    elif service == "lambda":
        kind, body = "application/json", json.dumps({"Type": "Service", "message": text})
        fields.append(f"x-amzn-ErrorType: {code}")
    elif service == "s3":
        kind = "application/xml"
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{text}</Message><RequestId>{REQUEST_ID}</RequestId></Error>"
        )
    else:
        side = "Receiver" if number >= 500 else "Sender"
        kind = "text/xml"
        body = (
            f"<ErrorResponse><Error><Type>{side}</Type><Code>{code}</Code><Message>{text}</Message></Error>"
            f"<RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
        )
    octets = body.encode()
    lines = [
        f"HTTP/1.1 {number} {HTTPStatus(number).phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(octets)}",
        "Connection: close",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if head_only else octets)
