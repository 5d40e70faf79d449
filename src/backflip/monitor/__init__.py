"""Metrics, alarms and reports of runs: receives numbers and samples, hands out logs and pages."""
