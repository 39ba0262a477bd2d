"""Bringing the system to where it runs: the cloud, the backup, the primary."""
