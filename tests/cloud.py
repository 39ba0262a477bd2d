"""The configuration that tests of the cloud side share."""

from twinmail.config import Config

TOML = """
region = "eu-central-1"
stack = "tests"
bucket = "tests-example-mail"
domains = ["example.org", "example.net"]
operator = "operator@example.com"
[mailboxes.ann]
addresses = ["ann@example.org", "*@example.net"]
[mailboxes.bob]
addresses = ["bob@example.org"]
[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"
[servers.backup]
platform = "linux/amd64"
host = "backup.example.org"
"""

CONFIG = Config.parse(TOML)
