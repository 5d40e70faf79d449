"""Watch. Receives metrics and samples; hands out logs, alarms and a report."""
