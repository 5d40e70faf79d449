"""Conversion of rows: foreign files to items, projects to rows to train on."""
