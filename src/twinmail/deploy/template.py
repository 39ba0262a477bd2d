"""Renders the templates beside it; a variable that is missing is an error, never an empty place."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    # Shell, YAML and the like: whoever renders decides how a value is quoted there.
    return Environment(
        loader=PackageLoader("twinmail.deploy"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, /, **variables: object) -> str:
    """The text of *template*.

    Raises:
        jinja2.UndefinedError: it names a variable that was not given.
    """
    return _environment().get_template(template).render(**variables)
