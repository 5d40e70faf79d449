"""``backflip feedback``: asking people, from the terminal."""
