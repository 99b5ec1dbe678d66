"""What tests share: small models and trees, servers that misbehave, commands and processes."""
