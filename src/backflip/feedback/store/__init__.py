"""The database of feedback: schema, events, migrations, backups."""
