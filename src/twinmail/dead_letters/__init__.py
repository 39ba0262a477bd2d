"""What Lambda gave up: what it was, why it failed, and another try."""
