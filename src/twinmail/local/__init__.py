"""The whole system on one machine: LocalStack, the SES edge and both mail servers, on loopback."""
