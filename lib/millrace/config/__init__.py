"""What a user may configure: pydantic models, and how YAML becomes one."""
