"""The demonstration model: its text, its training and its conversion. Read README.md in this folder."""
