"""How far a reward can be trusted: calibration, slices, raters' agreement, probes, golden rows."""
