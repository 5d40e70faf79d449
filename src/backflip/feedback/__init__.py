"""Ask people. Receives items to judge; hands out the next one to each rater, and a log."""
