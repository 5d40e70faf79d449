"""Statistics of many raters' judgements, as arrays: agreement, reliabilities, biases, labels."""
