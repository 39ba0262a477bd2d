"""Containers from OCI image layouts: one interface, one runtime with Docker, one with plain namespaces."""
