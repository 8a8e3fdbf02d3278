"""Makes what lies beside it importable for the tests of every folder."""
