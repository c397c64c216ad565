"""What can be said of configs: their fields, a document of them, starters and presets, and how two of them differ."""
