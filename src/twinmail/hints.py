"""What is allowed in twinmail.toml and seldom meant. Pure."""

from twinmail.config import Config


def hints(config: Config) -> tuple[str, ...]:
    """A line for each, with what to do; none if there is nothing to say."""
    found = []
    if config.operator is None:
        found.append("operator is missing: nobody is told of alarms, nor of a month over budget")
    elif config.operator_is_here:
        found.append(
            f"operator: {config.operator} reads mail on this very system: an alarm that mail does not arrive "
            "may not arrive there; better give an address elsewhere"
        )
    for name, server in config.servers.items():
        wide = [one for one in (server.lightsail.ssh_from if server.lightsail else ()) if one.endswith("/0")]
        if wide:
            found.append(f"servers.{name}.lightsail.ssh_from: {wide[0]} is everybody; give your own address")
    return tuple(found)
