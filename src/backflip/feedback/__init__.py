"""Ask people. Receives items to judge; hands out judgements, and how far to trust them."""
