"""The pages of raters and leads."""
