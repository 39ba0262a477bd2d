"""What a request to AWS asks for, told from the outside: its service and its operation.

Sources: AWS General Reference, "Signature Version 4" (the credential scope names the service); the API
references of S3 (REST), DynamoDB and SQS (``X-Amz-Target``), SNS and SES (``Action`` in a form).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

NOBODY = "localstack"
"""The service of requests without a signature: LocalStack's own paths, and the plugin's."""

_SCOPE = re.compile(r"Credential=[^/,\s]+/[0-9]{8}/[^/,\s]*/(?P<service>[^/,\s]+)/aws4_request")
_TARGETS = {"DynamoDB": "dynamodb", "AmazonSQS": "sqs"}

_SUBRESOURCES = {
    # S3 API reference: the sub-resource in the query → the noun in the operation's name.
    "tagging": "ObjectTagging",
    "acl": "ObjectAcl",
    "versioning": "BucketVersioning",
    "versions": "ObjectVersions",
    "uploads": "MultipartUploads",
    "location": "BucketLocation",
    "lifecycle": "BucketLifecycleConfiguration",
    "policy": "BucketPolicy",
    "notification": "BucketNotificationConfiguration",
    "encryption": "BucketEncryption",
}


@dataclass(frozen=True)
class Request:
    """One request's first lines.

    Attributes:
        target: path and query as they were sent.
        headers: by name in lower case; of a repeated field the last.
        head: the octets as they came, blank line included.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    head: bytes = b""

    @classmethod
    def parse(cls, head: bytes) -> "Request":
        """Read a head.

        Raises:
            ValueError: it is none of HTTP/1.1.
        """
        line, fields = first_lines(head)
        method, target, _ = line.split(" ", 2)
        return cls(method, target, fields, head)

    @property
    def service(self) -> str:
        """``s3``, ``sqs``, ``sns``, ``dynamodb``, …, or `NOBODY`."""
        if found := _SCOPE.search(self.headers.get("authorization", "")):
            return found["service"]
        prefix = self.headers.get("x-amz-target", "").partition(".")[0].partition("_")[0]
        return _TARGETS.get(prefix, NOBODY)

    @property
    def is_form(self) -> bool:
        """Whether the operation is in the body."""
        return self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")

    def operation(self, body: bytes = b"") -> str:
        """The API's name of the operation (``PutObject``); of a form, *body* holds it. Unknown: empty."""
        if target := self.headers.get("x-amz-target"):
            return target.rpartition(".")[2]
        if self.is_form:
            return parse_qs(body.decode("latin-1")).get("Action", [""])[0]
        service = self.service
        if service == "s3":
            return self._of_s3()
        if service == "lambda" and self.target.partition("?")[0].endswith("/invocations"):
            return "Invoke"
        return ""

    def _of_s3(self) -> str:
        parts = urlsplit(self.target)
        query = parse_qs(parts.query, keep_blank_values=True)
        # Path style: bucket and key are both in the path, as with every endpoint that is an address.
        has_key = "/" in parts.path.strip("/")
        verb = {"GET": "Get", "PUT": "Put", "DELETE": "Delete", "HEAD": "Head", "POST": "Post"}[self.method]
        if "delete" in query:
            return "DeleteObjects"
        if "partNumber" in query:
            return "UploadPart"
        if "uploadId" in query:
            return "CompleteMultipartUpload" if verb == "Post" else "AbortMultipartUpload"
        if verb == "Post" and "uploads" in query:
            return "CreateMultipartUpload"
        for name, noun in _SUBRESOURCES.items():
            if name in query:
                return f"{'List' if name in ('versions', 'uploads') else verb}{noun}"
        if has_key:
            return "CopyObject" if "x-amz-copy-source" in self.headers else f"{verb}Object"
        if not parts.path.strip("/"):
            return "ListBuckets"
        if verb == "Get":
            return "ListObjectsV2" if "list-type" in query else "ListObjects"
        return "CreateBucket" if verb == "Put" else f"{verb}Bucket"


def first_lines(head: bytes) -> tuple[str, Mapping[str, str]]:
    """The first line of a request or an answer, and its fields by name in lower case."""
    line, *rest = head.decode("latin-1").split("\r\n")
    fields = (one.partition(":") for one in rest if one)
    return line, {name.strip().lower(): text.strip() for name, _, text in fields}
