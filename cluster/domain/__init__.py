"""The words of Treadle as frozen types and pure functions. Imports nothing but pydantic and the standard library."""
