"""From a YAML file to a running stage. One shipped YAML file per method."""
