"""The lake: where everything lies, how it is read at a pinned version and written so that a night can be run again."""
