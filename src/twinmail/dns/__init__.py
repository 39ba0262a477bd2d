"""The records of the domains: what they must be, what the DNS says, and Route 53."""
