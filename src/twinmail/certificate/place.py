"""What is in the folder of a server's certificate."""

CERTIFICATE = "cert.pem"
"""The server's certificate, then those that lead to the authority."""
KEY = "key.pem"
REPORT = "report.json"
"""What whoever keeps the certificate says of itself (see `twinmail.certificate.report`)."""

WISH = "wish"
"""Among the secrets: whoever wants a new key before its time puts another text there (see `certbot`)."""
