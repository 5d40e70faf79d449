"""The work of raters: items, leases, allocation, answers, resolution."""
