"""What a mail client needs to set itself up: rendered files and DNS records, all from the configuration."""
