"""The steps of a night, each one screen of named parts."""
