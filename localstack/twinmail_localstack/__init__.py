"""LocalStack plugins that supply, offline and without Docker, what twinmail needs from AWS."""
