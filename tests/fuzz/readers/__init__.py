"""The readers, each with good inputs made by code: what is tried."""
