"""The `treadle` command: one file per word. A command parses, calls, prints."""
