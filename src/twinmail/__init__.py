"""twinmail: e-mail on your own domain, on two independent servers, fed from one durable log."""

__version__ = "0.1.0"
