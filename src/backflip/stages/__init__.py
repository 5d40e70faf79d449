"""Training stages: settings, data, roles and the run of each."""
