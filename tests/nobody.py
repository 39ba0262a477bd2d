"""A machine on which nobody is known to AWS and no system runs."""

import os
from pathlib import Path

import pytest

from twinmail.tasks import place


def be_nobody(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Take all credentials away; the files of the AWS SDK are ``config`` and ``credentials`` in *folder*."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setattr(place, "PROJECT", folder)
