"""Items and answers of any kind: settings, reading, display, identity, scores, simulated raters."""
