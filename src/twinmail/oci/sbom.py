"""What is in an image, for scanners and for people: SPDX 2.3 as JSON (ISO/IEC 5962)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from twinmail import __version__


@dataclass(frozen=True)
class Component:
    """One package or distribution, as it was unpacked.

    Attributes:
        kind: ``deb`` or ``pypi``, as in a package URL.
        sha256: hex digest of the file it came in.
        filename: name of that file.
    """

    kind: str
    name: str
    version: str
    sha256: str
    filename: str

    def purl(self, platform: str) -> str:
        """The package URL (purl specification)."""
        version = quote(self.version, safe="")
        if self.kind == "deb":
            return f"pkg:deb/debian/{self.name}@{version}?arch={platform.partition('/')[2]}&distro=debian-13"
        return f"pkg:{self.kind}/{self.name}@{version}"


def document(
    image: str, platform: str, digest: str, epoch: int, components: Sequence[Component]
) -> dict[str, Any]:
    """The SPDX document of the image whose manifest has *digest*."""
    name = f"{image}-{platform.replace('/', '-')}"
    root = {
        "SPDXID": "SPDXRef-image",
        "name": image,
        "versionInfo": digest,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest.removeprefix("sha256:")}],
    }
    packages = [_package(one, platform) for one in sorted(components, key=lambda one: (one.kind, one.name))]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/twinmail-{name}-{digest.removeprefix('sha256:')}",
        "creationInfo": {
            "created": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: twinmail-{__version__}"],
        },
        "packages": [root, *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
            *(_relation("SPDXRef-image", "CONTAINS", one["SPDXID"]) for one in packages),
        ],
    }


def _package(one: Component, platform: str) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-{one.kind}-{re.sub(r'[^A-Za-z0-9.-]', '-', one.name)}",
        "name": one.name,
        "versionInfo": one.version,
        "packageFileName": one.filename,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": one.sha256}],
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": one.purl(platform),
            }
        ],
    }


def _relation(source: str, kind: str, target: str) -> dict[str, str]:
    return {"spdxElementId": source, "relationshipType": kind, "relatedSpdxElement": target}
