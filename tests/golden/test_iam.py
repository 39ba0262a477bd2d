"""docs/iam.md says what the template allows; `tests.golden.regenerate` writes it anew."""

from pathlib import Path

import pytest
import yaml

from twinmail import iam
from twinmail.iam import NoReason
from twinmail.stack_template import REASON, without_reasons

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, TEMPLATE = ROOT / "docs" / "iam.md", ROOT / "lambda" / "stack.yaml"
DEPLOYER = ROOT / "lambda" / "deployer.yaml"


def test_document_is_what_the_template_allows() -> None:
    text = DOCUMENT.read_text()
    made = iam.documented(text, TEMPLATE.read_text(), DEPLOYER.read_text())
    assert text == made, "write it anew: .venv/bin/python -m tests.golden.regenerate"


def test_statement_without_a_reason_is_an_error() -> None:
    template = TEMPLATE.read_text().replace("Why: reads the message that SES has stored\n", "Sid: X\n")
    with pytest.raises(NoReason) as caught:
        iam.grants(template)
    assert str(caught.value) == (
        "lambda/stack.yaml: FunctionRole: statement 1 (s3:GetObject): expected Why with what it is for, got none"
    )


def test_permission_to_deploy_without_a_reason_is_an_error() -> None:
    text = DEPLOYER.read_text().replace("Why: these policies\n", "Sid: X\n")
    with pytest.raises(NoReason, match=r"^lambda/deployer\.yaml: Identities: statement 3 "):
        iam.deployer_grants(text)


def test_cloudformation_sees_no_reason_in_a_statement() -> None:
    def statements(node: object) -> list[dict[str, object]]:
        if isinstance(node, list):
            return [found for one in node for found in statements(one)]
        if not isinstance(node, dict):
            return []
        own = [node] if "Effect" in node else []
        return [*own, *(found for one in node.values() for found in statements(one))]

    document = yaml.safe_load(TEMPLATE.read_text())
    assert all(REASON in one for one in statements(document))
    assert not [one for one in statements(without_reasons(document)) if REASON in one]


def test_nothing_is_allowed_everywhere_or_everything() -> None:
    for grant in iam.grants(TEMPLATE.read_text()):
        if not grant.denied:
            assert "*" not in grant.resources, grant
            assert not [one for one in grant.actions if "*" in one], grant
            assert grant.who != "everybody", grant
