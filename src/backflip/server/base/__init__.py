"""The server's foundations: state, settings, sessions, limits, media, jobs, templates."""
