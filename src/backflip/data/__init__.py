"""What travels. Receives files; hands out records, tokens and tensor records."""
