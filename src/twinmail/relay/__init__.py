"""The submission relay: what Dovecot's submission service hands on to SES, and its copy in Sent."""
