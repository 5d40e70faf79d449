"""Query selection: which items are worth asking, and what that gains."""
