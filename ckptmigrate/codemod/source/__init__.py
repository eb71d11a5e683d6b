"""Source code, read and written: its index, its scopes, what class a value is of, and edits of places."""
