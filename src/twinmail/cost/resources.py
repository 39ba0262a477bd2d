"""What of the stack is billed by the piece."""

from twinmail import stack_template
from twinmail.config import Config


def counted(template: str, config: Config) -> tuple[int, int]:
    """How many alarms and budgets the stack *template* makes for *config*.

    Raises:
        TemplateError: see `twinmail.stack_template.render`.
    """
    document = stack_template.render(template, config)
    kinds = [one["Type"] for one in document["Resources"].values()]
    return kinds.count("AWS::CloudWatch::Alarm"), kinds.count("AWS::Budgets::Budget")
