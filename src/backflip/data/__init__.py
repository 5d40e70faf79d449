"""Records, tokens and batches: what travels from files to losses. Receives files and hub names."""
