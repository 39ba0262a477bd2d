"""The syncer: carries messages from the log in S3 into the Maildirs of one server."""
