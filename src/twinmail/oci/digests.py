"""``images/digests.json``: what the committed sources build, digest by digest; the deployments pin these."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError
from twinmail.oci.report import BuildReport, Built

FILE = Path("images") / "digests.json"

_REMEDY = 'if the change is intended, run "./inv build --pin" and commit it'


@dataclass(frozen=True)
class Digests:
    """Committed digests.

    Attributes:
        images: by image, by platform: digests of ``manifest`` and ``debug``, list of ``diff_ids``.
    """

    images: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @classmethod
    def of(cls, report: BuildReport) -> "Digests":
        """The digests of what was built."""
        return cls(
            {
                name: {platform: _entry(built) for platform, built in sorted(platforms.items())}
                for name, platforms in sorted(report.images.items())
            }
        )

    @classmethod
    def load(cls, root: Path) -> "Digests":
        """The committed ones of the checkout at *root*.

        Raises:
            PermanentError: the file is missing or damaged.
        """
        try:
            return cls(json.loads((root / FILE).read_text("utf-8")))
        except FileNotFoundError:
            raise PermanentError(f'{FILE}: missing; run "./inv build --pin" and commit it') from None
        except ValueError as error:
            raise PermanentError(f"{FILE}: not JSON: {error}; restore it from git") from error

    def save(self, root: Path) -> Path:
        """Write the digests; what the file says about other images and platforms stays. Return its path."""
        path = root / FILE
        known = dict(Digests.load(root).images) if path.is_file() else {}
        for name, platforms in self.images.items():
            known[name] = dict(sorted({**known.get(name, {}), **platforms}.items()))
        partial = path.with_name(f".{path.name}.new")
        partial.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", "utf-8")
        partial.replace(path)
        return path

    def differences(self, report: BuildReport) -> list[str]:
        """In what the images of *report* are not the committed ones, a line each."""
        lines = []
        for name, platforms in sorted(report.images.items()):
            for platform, built in sorted(platforms.items()):
                where = f"{FILE}: {name} for {platform}"
                expected = self.images.get(name, {}).get(platform)
                if expected is None:
                    lines.append(f"{where}: missing, got manifest {built.manifest}; {_REMEDY}")
                elif expected != _entry(built):
                    lines.append(f"{where}: {_why(expected, built)}; {_REMEDY}")
        return lines


def _entry(built: Built) -> dict[str, Any]:
    return {"manifest": built.manifest, "debug": built.debug, "diff_ids": list(built.diff_ids)}


def _why(expected: Mapping[str, Any], built: Built) -> str:
    text = f"expected manifest {expected['manifest']}, got {built.manifest}"
    wanted: Sequence[str] = expected["diff_ids"]
    if len(wanted) != len(built.diff_ids):
        return f"{text}: expected {len(wanted)} layers, got {len(built.diff_ids)}"
    changed = [
        f"layer {number} (diff ID {one}, expected {other})"
        for number, (one, other) in enumerate(zip(built.diff_ids, wanted, strict=True))
        if one != other
    ]
    if changed:
        return f"{text}: {', '.join(changed)} differs"
    if expected["manifest"] == built.manifest:
        return f"the debug variant: expected manifest {expected['debug']}, got {built.debug}"
    return f"{text}: the layers' contents are equal, so the config or the compression differs"
