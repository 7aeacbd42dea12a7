"""A scene's pair: its runs up to the cursor, with the controls that every pair has, and the YAML that declares it."""
