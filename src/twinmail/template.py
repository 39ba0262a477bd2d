"""Files that are rendered from templates; a variable that is missing is an error, never an empty place."""

from dataclasses import dataclass
from functools import cached_property

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Templates:
    """The templates in the folder ``templates`` of *package*.

    Attributes:
        escaped: whether variables are escaped for XML and HTML; else whoever renders quotes them.
    """

    package: str
    escaped: bool

    @cached_property
    def _environment(self) -> Environment:
        return Environment(
            loader=PackageLoader(self.package),
            undefined=StrictUndefined,
            autoescape=self.escaped,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def render(self, template: str, /, **variables: object) -> str:
        """The text of *template*.

        Raises:
            jinja2.UndefinedError: it names a variable that was not given.
        """
        return self._environment.get_template(template).render(**variables)
